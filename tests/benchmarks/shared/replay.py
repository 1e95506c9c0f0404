"""A search on a simulated clock: two workers, a policy, and a table of curves in place of training."""

from __future__ import annotations

import heapq
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from shared.curve_tables import Curve, CurveTable

from finesearch.plan import Scalar

WORKERS = 2
SHARES = (0.25, 0.5, 1.0)


@dataclass(frozen=True)
class Start:
    """A new trial."""

    configuration: Mapping[str, Scalar]


@dataclass(frozen=True)
class Resume:
    """A trial that was stopped, from its last evaluation."""

    trial: int


class ReplayedPolicy(Protocol):
    """A search policy; trials are numbered from 0 in the order of their start."""

    def next(self) -> Start | Resume | None:
        """What a free worker does; None: nothing until another event."""
        ...

    def evaluated(self, trial: int, step: int, value: float, is_last: bool) -> bool:
        """Whether a trial goes on after evaluation ``step``, counted from 1; the last one is also told."""
        ...


@dataclass
class Replay:
    """One search over one table.

    total: the budget: evaluations, or seconds where ``in_seconds``.
    """

    table: CurveTable
    total: float
    in_seconds: bool = False
    clock: float = 0.0
    found: list[tuple[float, float]] = field(default_factory=list)
    """Budget used and value, of each evaluation."""
    _curves: list[Curve] = field(default_factory=list)
    _steps: list[int] = field(default_factory=list)
    _taken: set[int] = field(default_factory=set)

    def run(self, policy: ReplayedPolicy) -> list[float]:
        """Regret at each of ``SHARES`` of the budget: 0 is the table's best, 1 its median configuration."""
        under_way: list[tuple[float, int, int]] = []
        free, order = WORKERS, 0
        while not self._is_spent:
            while free and (trial := self._started(policy)) is not None:
                order += 1
                heapq.heappush(under_way, (self.clock + self._next_seconds(trial), order, trial))
                free -= 1
            assert under_way, "the policy starts nothing while no trial runs"
            self.clock, _, trial = heapq.heappop(under_way)
            if self.in_seconds and self.clock > self.total:
                break
            self._steps[trial] += 1
            step = self._steps[trial]
            value = self._curves[trial].values[step - 1]
            is_last = step == len(self._curves[trial].values)
            self.found.append((self.clock if self.in_seconds else len(self.found) + 1.0, value))
            goes_on = policy.evaluated(trial, step, value, is_last)
            if goes_on and not is_last:
                order += 1
                heapq.heappush(under_way, (self.clock + self._next_seconds(trial), order, trial))
            else:
                free += 1
        return [self.regret(share * self.total) for share in SHARES]

    @property
    def _is_spent(self) -> bool:
        return (self.clock if self.in_seconds else len(self.found)) >= self.total

    def _started(self, policy: ReplayedPolicy) -> int | None:
        decision = policy.next()
        if isinstance(decision, Start):
            self._curves.append(self.table.draw(decision.configuration, self._taken))
            self._steps.append(0)
            return len(self._curves) - 1
        return None if decision is None else decision.trial

    def _next_seconds(self, trial: int) -> float:
        return self._curves[trial].seconds[self._steps[trial]] if self.in_seconds else 1.0

    def regret(self, budget: float) -> float:
        """Regret of the best evaluation until ``budget``; 1 before there is one."""
        best = max((value for used, value in self.found if used <= budget), default=-math.inf)
        scale = self.table.best - self.table.median
        return max(0.0, (self.table.best - best) / scale) if math.isfinite(best) else 1.0
