"""Reports a worker's counters to Prometheus while it trains: from a thread, and after each trial."""

from __future__ import annotations

import threading
import time

from finesearch.training.prefix_cache.disk_entries import list_entries
from finesearch.training.runtime.counters import COUNTED, COUNTERS, Counters
from finesearch.tuning.observability.prometheus import CACHE_BYTES, PrometheusMetrics

EVERY_S = 2.0
DISK_EVERY_S = 20.0  # reading the cache's folder opens a small file for each entry


class WorkerMetrics:
    """Counts since the last report, and the size of the node's prefix cache; callable from any thread."""

    def __init__(self, run: str, counters: Counters = COUNTERS) -> None:
        self._counters, self._instruments = counters, PrometheusMetrics(run)
        self._told = dict.fromkeys(COUNTED, 0.0)
        self._looked_at = float("-inf")
        self._lock = threading.Lock()

    def report(self) -> None:
        """Report what changed since the last call."""
        with self._lock:
            for name, total in self._counters.totals().items():
                self._instruments.add(name, total - self._told[name])
                self._told[name] = total
            if time.monotonic() - self._looked_at > DISK_EVERY_S:
                self._looked_at = time.monotonic()
                self._instruments.set(CACHE_BYTES, sum(entry.bytes for entry in list_entries()))


def start_reporting(run: str) -> WorkerMetrics:
    """Report this process's counters until it ends."""
    metrics = WorkerMetrics(run)

    def report() -> None:
        while True:
            metrics.report()
            time.sleep(EVERY_S)

    threading.Thread(target=report, daemon=True, name="metrics").start()
    return metrics
