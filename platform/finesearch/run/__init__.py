"""One run: its storage, preflight, final scoring, progress and report record."""
