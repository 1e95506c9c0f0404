"""Ways to adapt a model: freezing, adapters, soft prompts, gradual unfreezing. ``adapt`` lists and applies them."""
