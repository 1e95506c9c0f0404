"""Hands on what a worker counts while it trains: from a thread of its own, and when a trial is over."""

from __future__ import annotations

import threading
import time

from finesearch.training.prefix_cache.disk_entries import list_entries
from finesearch.training.runtime.counters import COUNTED, COUNTERS, Counters
from finesearch.tuning.observability.prometheus import CACHE_BYTES, PrometheusMetrics

EVERY_S = 2.0
DISK_EVERY_S = 20.0  # looking at the cache's folder reads a small file for each entry


class WorkerMetrics:
    """What was counted since the last time, and what the node's prefix cache holds; told from any thread."""

    def __init__(self, run: str, counters: Counters = COUNTERS) -> None:
        self._counters, self._instruments = counters, PrometheusMetrics(run)
        self._told = dict.fromkeys(COUNTED, 0.0)
        self._looked_at = float("-inf")
        self._lock = threading.Lock()

    def report(self) -> None:
        """Hand on what is new."""
        with self._lock:
            for name, total in self._counters.totals().items():
                self._instruments.add(name, total - self._told[name])
                self._told[name] = total
            if time.monotonic() - self._looked_at > DISK_EVERY_S:
                self._looked_at = time.monotonic()
                self._instruments.set(CACHE_BYTES, sum(entry.bytes for entry in list_entries()))


def start_reporting(run: str) -> WorkerMetrics:
    """Tell of this process until it ends."""
    metrics = WorkerMetrics(run)

    def report() -> None:
        while True:
            metrics.report()
            time.sleep(EVERY_S)

    threading.Thread(target=report, daemon=True, name="metrics").start()
    return metrics
