"""One trial from its first step to its result, and checkpoints scored again."""
