"""What each command of ``finesearch`` does."""
