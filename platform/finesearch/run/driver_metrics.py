"""What the driver shows to Prometheus while a search runs: read from the conductor now and then, by a thread."""

from __future__ import annotations

import threading
from dataclasses import dataclass

from finesearch.run.progress import best_so_far
from finesearch.tuning.controller.search_controller import SEARCH, Conductor
from finesearch.tuning.observability.prometheus import (
    BEST,
    DEVICE_HOURS,
    SEARCH_SECONDS,
    TRIALS,
    TRIALS_WANTED,
    Instruments,
)

EVERY_S = 5.0


@dataclass(frozen=True)
class Reading:
    """The value of one gauge; ``labels`` are pairs of name and word."""

    name: str
    value: float
    labels: tuple[tuple[str, str], ...] = ()


def readings(conductor: Conductor) -> list[Reading]:
    """Every gauge of the driver as it stands."""
    journal, plan, spending = conductor.journals[SEARCH], conductor.plan, conductor.spending
    found = [Reading(TRIALS, count, (("state", state),)) for state, count in journal.counts().items()]
    best = best_so_far(journal)
    if best is not None:
        found.append(Reading(BEST, best[1], (("metric", plan.task.metric),)))
    return [
        *found,
        Reading(TRIALS_WANTED, plan.budget.trials),
        Reading(DEVICE_HOURS, spending.device_hours),
        Reading(SEARCH_SECONDS, spending.seconds),
    ]


class Watching:
    """Tells Ray's metrics how the search stands, every ``EVERY_S`` seconds and once more at the end."""

    def __init__(self, conductor: Conductor) -> None:
        self._conductor = conductor
        self._instruments = Instruments(conductor.plan.name)
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True, name="metrics")

    def start(self) -> None:
        """Begin to tell; Ray is connected."""
        self._thread.start()

    def stop(self) -> None:
        """End, with how it stands now told."""
        self._stopped.set()
        self._thread.join()

    def tell(self) -> None:
        """How it stands now."""
        for reading in readings(self._conductor):
            self._instruments.set(reading.name, reading.value, **dict(reading.labels))

    def _run(self) -> None:
        while not self._stopped.is_set():
            self.tell()
            self._stopped.wait(EVERY_S)
        self.tell()
