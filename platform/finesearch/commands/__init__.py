"""The commands of ``finesearch``."""
