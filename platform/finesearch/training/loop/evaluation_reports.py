"""The newest evaluation on its way to the disk and to the caller, and what the caller says to it."""

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
    """One evaluation is on its way at a time. Ranks call all but ``wait_for_own_thread`` together."""

    attempt: Attempt
    policy: CheckpointPolicy
    _save: AsyncSave | None = field(default=None, init=False)

    def send(self, history: tuple[Evaluation, ...], chosen: SaveDecision, report: Report) -> None:
        """Set the newest evaluation on its way, once the one before it has arrived."""
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
        """False once the caller is known to ask for the end; True while it has not answered."""
        verdict = None if self._save is None else self._save.poll()
        if verdict is not None:
            self._save = None
        return verdict is not False

    def wait(self) -> bool:
        """What the caller said, once it has; True where nothing is on its way."""
        if self._save is None:
            return True
        sent, self._save = self._save, None
        with heartbeat(self.attempt.callbacks.beat):
            return sent.wait()

    def wait_for_own_thread(self) -> None:
        """Wait for what this process writes, and for nobody else."""
        if self._save is not None:
            self._save.wait_for_own_thread()
