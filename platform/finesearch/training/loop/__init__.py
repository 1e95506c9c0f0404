"""Runs one trial from its first step to its result, and rescores checkpoints."""
