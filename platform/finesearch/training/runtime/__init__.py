"""Processes, DeepSpeed, precision, random numbers, memory, heartbeat."""
