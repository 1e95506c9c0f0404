"""Samplers and pruners: Optuna's and our own."""
