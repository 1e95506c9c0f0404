"""Monitoring counters of this process: running totals that any thread may add to."""

from __future__ import annotations

import threading

TOKENS = "tokens"
CACHE_HITS, CACHE_MISSES = "prefix_cache_hits", "prefix_cache_misses"
CACHE_READ_BYTES = "prefix_cache_read_bytes"
CHECKPOINTS, CHECKPOINT_SECONDS = "checkpoints", "checkpoint_seconds"
COUNTED = (TOKENS, CACHE_HITS, CACHE_MISSES, CACHE_READ_BYTES, CHECKPOINTS, CHECKPOINT_SECONDS)


class Counters:
    """Totals by name since the process started; they only grow.

    >>> counters = Counters()
    >>> counters.add(TOKENS, 300)
    >>> counters.add(TOKENS, 200)
    >>> counters.totals()["tokens"]
    500.0
    """

    def __init__(self) -> None:
        self._totals = dict.fromkeys(COUNTED, 0.0)
        self._lock = threading.Lock()

    def add(self, name: str, amount: float) -> None:
        """Add ``amount`` (0 or more) to a counter in ``COUNTED``."""
        with self._lock:
            self._totals[name] += amount

    def totals(self) -> dict[str, float]:
        """All totals, by name."""
        with self._lock:
            return dict(self._totals)


COUNTERS = Counters()
