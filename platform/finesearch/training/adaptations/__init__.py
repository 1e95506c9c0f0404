"""Adaptations: freezing, adapters (LoRA, IA3), soft prompts, gradual unfreezing; ``adapt`` lists and applies them."""
