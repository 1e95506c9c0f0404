"""HOW one trial trains: torch, transformers and DeepSpeed; knows no Ray."""
