"""Optuna's samplers and pruners, and ours beside them."""
