"""Metrics of one class against the rest, and of class probabilities."""
