"""Weights of a model's folder: which files are loaded, and whether they hold the whole model and every token's row."""
