"""Budget accounting: wall-clock hours and device hours of a search, over all of its resumes."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from finesearch.tuning.study.journal import Journal

if TYPE_CHECKING:
    from finesearch.plan import BudgetPlan

KEEP_EVERY_S = 2.0


class BudgetUsage:
    """Counts seconds; the seconds of earlier drivers are read from the journal.

    Args:
        journals: by study name; the first one stores the totals.
        devices_per_trial: GPUs of one trial, or CPUs where it has none.
        clock: monotonic seconds.
    """

    def __init__(
        self, journals: dict[str, Journal], devices_per_trial: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._journal = next(iter(journals.values()))
        self._devices = devices_per_trial
        self._clock = clock
        self._began = clock()
        self._kept_at = self._began
        note: dict[str, Any] = self._journal.read_note("spent", {"seconds": 0.0, "starts": 0})
        self._before = float(note["seconds"])
        self.starts = int(note["starts"])
        self._trial_seconds: dict[tuple[str, int], float] = {}
        for study, journal in journals.items():
            for trial in journal.trials():
                self.trained((study, trial.number), trial.seconds)

    def begin(self) -> None:
        """Count the start of a driver."""
        self.starts += 1
        self._began = self._clock()
        self.persist(force=True)

    def trained(self, trial: tuple[str, int], seconds: float) -> None:
        """Record that a trial has trained ``seconds`` in total."""
        self._trial_seconds[trial] = max(seconds, self._trial_seconds.get(trial, 0.0))

    @property
    def seconds(self) -> float:
        return self._before + self._clock() - self._began

    @property
    def hours(self) -> float:
        return self.seconds / 3600

    @property
    def device_seconds(self) -> float:
        return sum(self._trial_seconds.values()) * self._devices

    @property
    def device_hours(self) -> float:
        return self.device_seconds / 3600

    @property
    def devices_per_trial(self) -> float:
        return self._devices

    def persist(self, force: bool = False) -> None:
        """Write the clock into the journal, at most every two seconds."""
        if force or self._clock() - self._kept_at >= KEEP_EVERY_S:
            self._kept_at = self._clock()
            self._journal.note("spent", {"seconds": self.seconds, "starts": self.starts})


def budget_stop_reason(budget: BudgetPlan, search: Journal, usage: BudgetUsage) -> str | None:
    """Why no more trials may start; None while they may. The limit on the number of trials is not checked here."""
    failed = search.counts()["failed"]
    if failed >= budget.failed_trials:
        reasons = [trial.outcome.reason for trial in search.trials() if trial.state == "failed" and trial.outcome]
        return f"{failed} trials failed (budget.failed_trials is {budget.failed_trials}); the last: {reasons[-1]}"
    if budget.hours is not None and usage.hours >= budget.hours:
        return f"the budget of {budget.hours:g} hours is spent"
    if budget.device_hours is not None and usage.device_hours >= budget.device_hours:
        return f"the budget of {budget.device_hours:g} device-hours is spent"
    cost = budget.cost
    if cost is not None and cost.most is not None and cost.of(usage.device_seconds) >= cost.most:
        return f"the budget of a cost of {cost.most:g}, at {cost.per_device_hour:g} a device-hour, is spent"
    return None


def budget_shortage(budget: BudgetPlan, usage: BudgetUsage, rest_s: float, planned_s: float) -> str | None:
    """Why ``rest_s`` more seconds of one trial do not fit into the budget; None where they do.

    planned_s: seconds that trials which run already will still take, over all of them.
    """
    devices, cost = usage.devices_per_trial, budget.cost
    device_s = usage.device_seconds + devices * planned_s, devices * rest_s
    paid_hours = None if cost is None or cost.most is None else cost.most / cost.per_device_hour
    limits = (
        ("budget.hours", budget.hours, usage.seconds, rest_s),
        ("budget.device_hours", budget.device_hours, *device_s),
        ("budget.cost.most", paid_hours, *device_s),
    )
    for key, hours, spent_s, needed_s in limits:
        if hours is not None and spent_s + needed_s > 3600 * hours:
            left_s = max(0.0, 3600 * hours - spent_s)
            return f"its end would take an estimated {needed_s:.0f} s, and {key} leaves {left_s:.0f} s"
    return None
