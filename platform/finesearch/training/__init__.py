"""How one trial trains, on torch, transformers and DeepSpeed. This package never imports Ray."""
