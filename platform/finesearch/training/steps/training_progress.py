"""Training progress of an attempt: seconds, tokens, and the loss since the last evaluation."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from finesearch.training.checkpointing.preemption_state import PreemptionState

if TYPE_CHECKING:
    from torch import Tensor

    from finesearch.training.runtime.distributed import Processes
    from finesearch.training.trial_types import Evaluation


@dataclass(eq=False)
class TrainingProgress:
    """Totals over all attempts at the trial; every rank has one.

    seconds: of training, when the clock was last stopped. tokens, loss_units: of all ranks. loss_sum: of this rank.
    """

    processes: Processes
    seconds: float = 0.0
    tokens: int = 0
    loss_sum: Tensor | float = 0.0
    loss_units: float = 0.0
    _started_at: float = 0.0

    def start_clock(self) -> None:
        """Start counting training time."""
        self._started_at = time.perf_counter() - self.seconds

    def stop_clock(self) -> None:
        """Stop counting training time."""
        self.seconds = time.perf_counter() - self._started_at

    def add_step(self, loss_sum: Tensor, units: float, tokens: int) -> None:
        """Count an optimizer step."""
        self.loss_sum += loss_sum
        self.loss_units += units
        self.tokens += tokens

    def tokens_per_s(self) -> float:
        """Training tokens a second so far, while the clock runs."""
        return self.tokens / max(1e-9, time.perf_counter() - self._started_at)

    def mean_loss(self) -> float:
        """The mean loss of all units since the last evaluation, over all ranks, which call this together."""
        return self.processes.total(float(self.loss_sum))[0] / self.loss_units

    def clear_loss(self) -> None:
        """Reset the loss."""
        self.loss_sum, self.loss_units = 0.0, 0.0

    def resume_from(self, evaluation: Evaluation) -> None:
        """Resume after an evaluation."""
        self.seconds, self.tokens = evaluation.seconds, evaluation.tokens

    def resume_from_preemption(self, pause: PreemptionState) -> None:
        """Resume from a preemption state; rank 0 takes the loss of all ranks so far."""
        self.seconds, self.tokens, self.loss_units = pause.seconds, pause.tokens, pause.loss_units
        self.loss_sum = pause.loss_sum if self.processes.is_rank_zero else 0.0

    def preemption_state(self, step: int) -> PreemptionState:
        """The state to write after ``step`` optimizer steps; all ranks call this together."""
        return PreemptionState(
            step=step,
            loss_sum=self.processes.total(float(self.loss_sum))[0],
            loss_units=self.loss_units,
            seconds=self.seconds,
            tokens=self.tokens,
        )
