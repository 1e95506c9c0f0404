"""Process groups, DeepSpeed engine, precision (bf16), random seeds, memory, heartbeat."""
