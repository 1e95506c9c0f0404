"""Checkpoints of a trial: writing, retention, verification, resume after a failure or preemption, loading."""
