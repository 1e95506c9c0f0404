"""Preemption: checks from time to time whether processes of the trial are about to be preempted."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from finesearch.training.checkpointing.preemption_state import PreemptionCheck
    from finesearch.training.runtime.distributed import Processes

PREEMPTION_CHECK_INTERVAL_S = 1.0
"""Seconds between two checks."""


@dataclass(eq=False)
class PreemptionWatch:
    """Every rank has one; they check together. Without ``is_pending`` there are no checks."""

    processes: Processes
    is_pending: PreemptionCheck | None
    _asked_at: float = -math.inf

    def is_preempted(self) -> bool:
        """Whether preemption is pending; False also if the next check is not yet due."""
        return self.is_pending is not None and self._is_due() and self.is_pending()

    def _is_due(self) -> bool:
        """Whether a check is due by rank 0's clock; the same on every rank."""
        now = time.monotonic()
        is_due = now - self._asked_at >= PREEMPTION_CHECK_INTERVAL_S
        if not self.processes.total(float(is_due and self.processes.is_rank_zero))[0]:
            return False
        self._asked_at = now
        return True
