"""The optimizer steps of one attempt: each with its batch, its learning rate and its random numbers."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from finesearch.data import training_batches
from finesearch.training.attempt import Attempt
from finesearch.training.runtime.counters import COUNTERS, TOKENS
from finesearch.training.runtime.seeding import derived_seed, seed_dropout
from finesearch.training.steps.lr_schedule import learning_rate_factor
from finesearch.training.steps.optimizers import set_learning_rate
from finesearch.training.steps.train_step import TrainStep, count_tokens
from finesearch.training.steps.training_progress import TrainingProgress

if TYPE_CHECKING:
    from finesearch.training.adaptations.unfreezing_schedule import UnfreezingSchedule


@dataclass(eq=False)
class OptimizerSteps:
    """Everything a step depends on follows from its number, so that a resumed trial continues identically."""

    attempt: Attempt
    train_step: TrainStep
    unfreezing: UnfreezingSchedule | None = None
    _epochs: dict[int, list[np.ndarray]] = field(default_factory=dict, init=False)

    @cached_property
    def progress(self) -> TrainingProgress:
        """Seconds, tokens and loss so far."""
        return TrainingProgress(self.attempt.processes)

    def run(self, step: int) -> None:
        """Run optimizer step ``step`` (0-based), with learning rate, dropout seed and regularizers."""
        recipe, processes, regularizers = self.attempt.recipe, self.attempt.processes, self.train_step.regularizers
        factor = learning_rate_factor(recipe.schedule, step, self.attempt.steps, recipe.warmup_fraction)
        set_learning_rate(self.train_step.engine.optimizer, recipe.learning_rate * factor)
        regularizers.before_step(step, recipe.learning_rate * factor)
        if self.unfreezing is not None:
            self.unfreezing.begin_step(step, self.train_step.engine)
        # Each step's dropout has its own seed, so that a resumed trial draws the same masks.
        seed_dropout(derived_seed(self.attempt.spec.seed, "dropout", processes.rank, step))
        batch = self.batch(step)
        loss_sum, units = self.train_step.run(batch)
        regularizers.after_step(step, self.attempt.steps)
        tokens = count_tokens(self.train_step.tokens.lengths, batch)
        self.progress.add_step(loss_sum, units, tokens)
        if processes.is_rank_zero:  # the batch is the global one, so count it once
            COUNTERS.add(TOKENS, tokens)

    def batch(self, step: int) -> np.ndarray:
        """Row numbers of the global batch of a step."""
        epoch, index = divmod(step, self.attempt.steps_per_epoch)
        if epoch not in self._epochs:
            seed = derived_seed(self.attempt.spec.seed, "batches")
            lengths = self.train_step.tokens.lengths
            self._epochs = {epoch: training_batches(lengths, self.attempt.recipe.batch_size, seed, epoch)}
        return self._epochs[epoch][index]
