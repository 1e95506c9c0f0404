"""Prometheus gauges of the driver: a thread reads them from the controller while a search runs."""

from __future__ import annotations

import threading
from dataclasses import dataclass

from finesearch.run.progress import best_so_far
from finesearch.tuning.controller.search_controller import SearchController
from finesearch.tuning.controller.trial_queue import SEARCH
from finesearch.tuning.observability.prometheus import (
    BEST,
    DEVICE_HOURS,
    SEARCH_SECONDS,
    TRIALS,
    TRIALS_WANTED,
    PrometheusMetrics,
)
from finesearch.tuning.study.checkpoint_retention import quality_of

EVERY_S = 5.0


@dataclass(frozen=True)
class GaugeValue:
    """The value of one gauge; ``labels`` are pairs of name and value."""

    name: str
    value: float
    labels: tuple[tuple[str, str], ...] = ()


def gauge_values(controller: SearchController) -> list[GaugeValue]:
    """Current values of the driver's gauges."""
    journal, plan, usage = controller.journals[SEARCH], controller.plan, controller.usage
    found = [GaugeValue(TRIALS, count, (("state", state),)) for state, count in journal.counts().items()]
    for state, is_complete in (("complete", True), ("pruned", False)):
        best = best_so_far(journal, is_complete=is_complete)
        if best is not None:
            labels = (("metric", plan.task.metric), ("state", state))
            found.append(GaugeValue(BEST, quality_of(journal, best), labels))
    return [
        *found,
        GaugeValue(TRIALS_WANTED, plan.budget.trials),
        GaugeValue(DEVICE_HOURS, usage.device_hours),
        GaugeValue(SEARCH_SECONDS, usage.seconds),
    ]


class DriverMetrics:
    """Reports the state of the search to Ray's metrics, every ``EVERY_S`` seconds and once more at the end."""

    def __init__(self, controller: SearchController) -> None:
        self._controller = controller
        self._instruments = PrometheusMetrics(controller.plan.name)
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True, name="metrics")

    def start(self) -> None:
        """Start reporting; Ray must be connected."""
        self._thread.start()

    def stop(self) -> None:
        """Report a last time and stop."""
        self._stopped.set()
        self._thread.join()

    def report(self) -> None:
        """Report the current values."""
        for gauge in gauge_values(self._controller):
            self._instruments.set(gauge.name, gauge.value, **dict(gauge.labels))

    def _run(self) -> None:
        while not self._stopped.is_set():
            self.report()
            self._stopped.wait(EVERY_S)
        self.report()
