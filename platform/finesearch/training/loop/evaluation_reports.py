"""Saves and reports the newest evaluation in the background, and receives the caller's decision: continue or stop."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from finesearch.training.checkpointing.async_save import AsyncSave
from finesearch.training.runtime.heartbeat import heartbeat

if TYPE_CHECKING:
    from finesearch.training.attempt import Attempt, Report
    from finesearch.training.checkpointing.checkpoint_policy import CheckpointPolicy, SaveDecision
    from finesearch.training.trial_types import Evaluation


@dataclass(eq=False)
class EvaluationReports:
    """At most one evaluation is pending. Ranks call all methods but ``wait_for_own_thread`` together."""

    attempt: Attempt
    policy: CheckpointPolicy
    _save: AsyncSave | None = field(default=None, init=False)

    def send(self, history: tuple[Evaluation, ...], chosen: SaveDecision, report: Report) -> None:
        """Start saving and reporting the newest evaluation, once the previous one is done."""
        newest, began = history[-1], time.perf_counter()
        wanted = self.policy.folders_to_keep(history) if chosen.snapshots else None

        def tidy_and_report() -> bool:
            if chosen.resumes:
                self.policy.resume_write_s = time.perf_counter() - began
            if wanted is not None:
                self.policy.delete_others(wanted)
            return report(newest)

        self._save = AsyncSave(self.policy.writer, chosen.snapshots, tidy_and_report)

    def poll(self) -> bool:
        """False once the caller has asked to stop; True while it has not answered."""
        decision = None if self._save is None else self._save.poll()
        if decision is not None:
            self._save = None
        return decision is not False

    def wait(self) -> bool:
        """Wait for the caller's decision (False: stop); True if nothing is pending."""
        if self._save is None:
            return True
        sent, self._save = self._save, None
        with heartbeat(self.attempt.callbacks.beat):
            return sent.wait()

    def wait_for_own_thread(self) -> None:
        """Wait for this process's own writes only."""
        if self._save is not None:
            self._save.wait_for_own_thread()
