"""Scores of ranked checkpoints on parts of test."""
