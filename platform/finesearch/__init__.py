"""finesearch finds how to fine-tune a transformer."""

__version__ = "0.1.0"
