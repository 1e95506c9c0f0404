"""The Optuna study as the journal of a search: storage, backup, retention of its checkpoints."""
