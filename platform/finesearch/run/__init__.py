"""One run: its storage, preflight checks, final scoring, progress and report record."""
