"""The Optuna study as the journal of a search: storage, backup, checkpoints that it refers to."""
