"""Ranked checkpoints compared: on parts of test, and across runs."""
