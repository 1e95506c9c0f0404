"""Regularizers that act on the model or its weights while it trains: one file a method, one interface (``base``)."""
