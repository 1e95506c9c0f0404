"""Checkpoints of a trial: written, kept, resumed from, loaded."""
