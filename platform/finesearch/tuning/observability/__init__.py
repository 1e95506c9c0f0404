"""Prometheus metrics, experiment trackers and log prefixes."""
