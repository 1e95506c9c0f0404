"""One attempt at one trial, from its newest checkpoint to its end."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from finesearch.data import training_batches
from finesearch.errors import DivergedError
from finesearch.training.checkpoints import checkpoint_layout
from finesearch.training.checkpoints.async_save import AsyncSave
from finesearch.training.checkpoints.checkpoint_policy import CheckpointPolicy, SaveDecision
from finesearch.training.checkpoints.checkpoint_record import CheckpointRecord, library_versions
from finesearch.training.checkpoints.checkpoint_writer import WEIGHTS, CheckpointWriter
from finesearch.training.checkpoints.preemption_state import (
    PreemptionCheck,
    PreemptionState,
    read_preemption_state,
    write_preemption_state,
)
from finesearch.training.metric_history import RankingMetric
from finesearch.training.regularizers.weight_average import RAW
from finesearch.training.runtime.counters import COUNTERS, TOKENS
from finesearch.training.runtime.heartbeat import heartbeat
from finesearch.training.runtime.seeding import derived_seed, seed_dropout
from finesearch.training.steps.evaluate import ScoringOptions, evaluate
from finesearch.training.steps.lr_schedule import evaluation_steps, learning_rate_factor
from finesearch.training.steps.optimizers import set_learning_rate
from finesearch.training.steps.train_step import TrainStep, count_tokens
from finesearch.training.trial_types import Evaluation, Preempted, ScoredPredictions, TrialSpec

if TYPE_CHECKING:
    from finesearch.plan import TrainingPlan
    from finesearch.training.adaptations.unfreezing_schedule import UnfreezingSchedule
    from finesearch.training.prefix_cache.cached_outputs import CachedOutputs
    from finesearch.training.task_context import TaskContext

# A loss is looked at every so many steps: looking waits for the GPU, and for all ranks.
LOSS_CHECK_INTERVAL_STEPS = 10

PREEMPTION_CHECK_INTERVAL_S = 1.0
"""How often it is asked whether processes are about to be taken away."""


def steps_per_epoch(context: TaskContext, spec: TrialSpec) -> int:
    """Optimizer steps of one epoch; the last may be on a smaller batch."""
    return math.ceil(len(context.tokens.train) / spec.recipe.batch_size)


@dataclass(eq=False)
class TrainingLoop:
    """The steps of one attempt. Every rank holds one, and they go in step."""

    spec: TrialSpec
    training: TrainingPlan
    context: TaskContext
    ranking_metric: RankingMetric
    train_step: TrainStep
    writer: CheckpointWriter
    precision: str
    trainable_parameters: int
    total_parameters: int
    unfreezing: UnfreezingSchedule | None = None
    cached_outputs: CachedOutputs | None = None
    history: tuple[Evaluation, ...] = ()
    _beat: Callable[[], None] = lambda: None
    _async_save: AsyncSave | None = None
    _epochs: dict[int, list[np.ndarray]] = field(default_factory=dict)
    _loss_sum: Any = 0.0
    _loss_units: float = 0.0
    _seconds: float = 0.0
    _tokens: int = 0
    _at_step: int | None = None
    _asked_at: float = -math.inf

    @cached_property
    def checkpoint_policy(self) -> CheckpointPolicy:
        return CheckpointPolicy(
            self.writer, self.ranking_metric, self.spec.bar, self.spec.resume_pays, self.trainable_parameters
        )

    @property
    def steps_per_epoch(self) -> int:
        return steps_per_epoch(self.context, self.spec)

    @property
    def steps(self) -> int:
        return self.steps_per_epoch * self.spec.recipe.epochs

    @cached_property
    def evaluation_steps(self) -> tuple[int, ...]:
        return evaluation_steps(self.steps_per_epoch, self.spec.recipe.epochs, self.training.evaluations_per_epoch)

    @property
    def warnings(self) -> tuple[str, ...]:
        wanted = self.spec.recipe.epochs * self.training.evaluations_per_epoch
        if len(self.evaluation_steps) == wanted:
            return ()
        return (
            f"training.evaluations_per_epoch: an epoch has {self.steps_per_epoch} steps only, so that there were "
            f"{len(self.evaluation_steps)} evaluations instead of {wanted}.",
        )

    @property
    def is_over(self) -> bool:
        """Whether epochs or patience are used up."""
        patience = self.spec.recipe.early_stopping_patience
        return len(self.history) >= len(self.evaluation_steps) or self.ranking_metric.is_out_of_patience(
            self.history, patience
        )

    def resume_from(self, history: tuple[Evaluation, ...], kept: dict[int, Path]) -> None:
        """Take up where a checkpoint left off; ``kept`` are the intact checkpoints by evaluation number."""
        self.history = history
        self.checkpoint_policy.resume_from(history[-1], kept)
        self._seconds, self._tokens = history[-1].seconds, history[-1].tokens
        checkpoint = kept[history[-1].step]
        self.writer.read_optimizer_state(checkpoint)
        if (checkpoint / checkpoint_layout.RESUME / RAW).is_file():
            self.train_step.regularizers.resume_from(checkpoint / WEIGHTS)

    def resume_from_preemption(self, history: tuple[Evaluation, ...], kept: dict[int, Path], folder: Path) -> None:
        """Take up at a state between evaluations, as :meth:`resume_from` does at one."""
        pause = read_preemption_state(folder)
        self.history, self._at_step = history, pause.step
        resumable = max(
            (step for step, path in kept.items() if (path / checkpoint_layout.RESUME).is_dir()), default=None
        )
        self.checkpoint_policy.resume_from_preemption(folder, pause.seconds, resumable, kept)
        self._seconds, self._tokens, self._loss_units = pause.seconds, pause.tokens, pause.loss_units
        self._loss_sum = pause.loss_sum if self.writer.processes.is_rank_zero else 0.0
        self.writer.read_optimizer_state(folder)
        if (folder / checkpoint_layout.RESUME / RAW).is_file():
            self.train_step.regularizers.resume_from(folder / WEIGHTS)

    def train(
        self,
        report: Callable[[Evaluation], bool],
        beat: Callable[[], None],
        is_preemption_pending: PreemptionCheck | None = None,
    ) -> bool:
        """Train until the trial is over (True) or ``report`` asks for the end (False).

        ``report`` is called from a thread of rank 0, and training goes on meanwhile: what a trial did after an
        evaluation that ended it comes to nothing. The evaluation that ends the trial is left for the caller to report,
        who writes down the result first.

        Raises:
            DivergedError: the loss or the metric is NaN or infinite; on every rank.
            DiskFullError, TrialError: a checkpoint could not be written; on every rank.
            Preempted: processes are about to be taken away, and the state was written; on every rank.
        """
        self._beat = beat
        try:
            return self._train(report, is_preemption_pending)
        finally:
            if self._async_save is not None:
                self._async_save.wait_for_own_thread()

    def _train(self, report: Callable[[Evaluation], bool], is_preemption_pending: PreemptionCheck | None) -> bool:
        first = self.evaluation_steps[len(self.history) - 1] if self.history else 0
        if self._at_step is not None:
            first = self._at_step
        self.train_step.engine.train()
        resumed_at = time.perf_counter() - self._seconds
        for step in range(first, self.steps):
            self.optimize(step)
            self._beat()
            if step + 1 not in self.evaluation_steps:
                if not self._goes_on_after(step):
                    return False
                if is_preemption_pending is not None and self._is_preemption_check_due() and is_preemption_pending():
                    return self._preempt(step + 1, time.perf_counter() - resumed_at)
                continue
            stood_still_at = time.perf_counter()
            if not self._verdict():
                return False
            resumed_at += time.perf_counter() - stood_still_at
            train_loss = self._mean_loss(step)
            self._loss_sum, self._loss_units = 0.0, 0.0
            # Where weights are averaged, the average is what is scored and kept.
            with self.train_step.regularizers.averaged():
                scored = self._evaluate(step)
                self._seconds = time.perf_counter() - resumed_at
                evaluation = Evaluation(
                    step=len(self.history) + 1,
                    epoch=(step + 1) / self.steps_per_epoch,
                    metrics=scored.metrics,
                    train_loss=train_loss,
                    seconds=self._seconds,
                    tokens=self._tokens,
                    trainable_parameters=self.trainable_parameters,
                    decision=scored.decision,
                )
                self.history += (evaluation,)
                raw = self.train_step.regularizers.raw_weights
                chosen = self.checkpoint_policy.decide(self.history, self.is_over, self._record, raw)
            over = self.is_over
            self._send(chosen, (lambda _: True) if over else report)
            if (over or chosen.at_once) and not self._verdict():
                return False
            if over:
                return True
            # Copying, and whatever had to be waited for, is not training.
            resumed_at = time.perf_counter() - self._seconds
        raise AssertionError("the last optimizer step is always followed by an evaluation")

    def _send(self, chosen: SaveDecision, report: Callable[[Evaluation], bool]) -> None:
        """Set the newest evaluation on its way."""
        newest, began = self.history[-1], time.perf_counter()
        wanted = self.checkpoint_policy.folders_to_keep(self.history) if chosen.snapshots else None

        def tidy_and_report() -> bool:
            if chosen.resumes:
                self.checkpoint_policy.resume_write_s = time.perf_counter() - began
            if wanted is not None:
                self.checkpoint_policy.delete_others(wanted)
            return report(newest)

        self._async_save = AsyncSave(self.writer, chosen.snapshots, tidy_and_report)

    def _verdict(self) -> bool:
        """What was said of the last evaluation that was sent on its way, once it is; True where there is none."""
        if self._async_save is None:
            return True
        sent, self._async_save = self._async_save, None
        with heartbeat(self._beat):
            return sent.wait()

    def _goes_on_after(self, step: int) -> bool:
        """Look after the loss and the last evaluation's verdict, at steps at which all ranks can agree cheaply."""
        is_checked = (step + 1) % LOSS_CHECK_INTERVAL_STEPS == 0
        if self._async_save is not None and (is_checked or self.writer.processes.world_size == 1):
            verdict = self._async_save.poll()
            if verdict is not None:
                self._async_save = None
            if verdict is False:
                return False
        if is_checked:
            try:
                self._mean_loss(step)
            except DivergedError:
                # It may have been stopped before.
                if not self._verdict():
                    return False
                raise
        return True

    def _is_preemption_check_due(self) -> bool:
        """Whether it is time to ask again if processes are taken away: on rank 0's clock, agreed on."""
        now = time.monotonic()
        is_due = now - self._asked_at >= PREEMPTION_CHECK_INTERVAL_S
        if not self.writer.processes.total(float(is_due and self.writer.processes.is_rank_zero))[0]:
            return False
        self._asked_at = now
        return True

    def _preempt(self, step: int, seconds: float) -> bool:
        """Write what the next attempt goes on from after ``step`` optimizer steps; False where the trial was stopped.

        Raises:
            Preempted: it is written.
        """
        if not self._verdict():
            return False
        loss_sum = self.writer.processes.total(float(self._loss_sum))[0]
        pause = PreemptionState(
            step=step, loss_sum=loss_sum, loss_units=self._loss_units, seconds=seconds, tokens=self._tokens
        )
        held = self.checkpoint_policy.take_held_snapshot()
        if held is not None:
            AsyncSave(self.writer, [held], lambda: True).wait()
        with self.train_step.regularizers.averaged():
            raw = self.train_step.regularizers.raw_weights
            snapshot = self.writer.take_snapshot(self._record, len(self.history), True, raw, copy_moments=False)
        write_preemption_state(self.writer, snapshot, pause)
        raise Preempted(f"{self._place(step - 1)}: written and put aside")

    def optimize(self, step: int) -> None:
        """Optimizer step ``step`` (0-based), with all that belongs to it."""
        recipe = self.spec.recipe
        factor = learning_rate_factor(recipe.schedule, step, self.steps, recipe.warmup_fraction)
        set_learning_rate(self.train_step.engine.optimizer, recipe.learning_rate * factor)
        self.train_step.regularizers.before_step(step, recipe.learning_rate * factor)
        if self.unfreezing is not None:
            self.unfreezing.begin_step(step, self.train_step.engine)
        # Each step's dropout has a seed of its own, so that a resumed trial drops what it would have dropped.
        seed_dropout(derived_seed(self.spec.seed, "dropout", self.writer.processes.rank, step))
        batch = self.batch(step)
        loss_sum, units = self.train_step.run(batch)
        self.train_step.regularizers.after_step(step, self.steps)
        self._loss_sum += loss_sum
        self._loss_units += units
        tokens = count_tokens(self.context.tokens.train.lengths, batch)
        self._tokens += tokens
        if self.writer.processes.is_rank_zero:  # the batch is that of all ranks
            COUNTERS.add(TOKENS, tokens)

    def batch(self, step: int) -> np.ndarray:
        """Row numbers of the global batch of a step."""
        epoch, index = divmod(step, self.steps_per_epoch)
        if epoch not in self._epochs:
            seed = derived_seed(self.spec.seed, "batches")
            lengths = self.context.tokens.train.lengths
            self._epochs = {epoch: training_batches(lengths, self.spec.recipe.batch_size, seed, epoch)}
        return self._epochs[epoch][index]

    def _mean_loss(self, step: int) -> float:
        """The mean loss of all units since the last evaluation, over all ranks."""
        mean = self.writer.processes.total(float(self._loss_sum))[0] / self._loss_units
        if not math.isfinite(mean):
            raise DivergedError(f"{self._place(step)}: the training loss became {mean}. {self._advice}")
        return mean

    def _evaluate(self, step: int) -> ScoredPredictions:
        try:
            scored = evaluate(
                self.writer.model,
                self.context.task,
                self.context.base,
                self.context.tokens.validation,
                self.writer.processes,
                ScoringOptions(calibrate=True, metric=self.ranking_metric.metric),
                self.cached_outputs,
                self._beat,
            )
        except DivergedError as error:
            raise DivergedError(f"{self._place(step)}: {error.message}. {self._advice}") from error
        finally:
            self.train_step.engine.train()
        for name, value in scored.metrics.items():
            if not math.isfinite(value):
                raise DivergedError(f"{self._place(step)}: metric {name} became {value}. {self._advice}")
        return scored

    @property
    def best(self) -> Evaluation | None:
        """The best evaluation whose checkpoint is there, or that can have none: see ``CheckpointPolicy``."""
        return self.checkpoint_policy.best(self.history)

    def _record(self) -> CheckpointRecord:
        model = self.writer.model
        return CheckpointRecord(
            base=self.context.base_reference,
            kind=self.context.task.kind,
            facts=self.context.facts.model_dump(mode="json"),
            trial=self.spec.number,
            attempt=self.spec.attempt,
            seed=self.spec.seed,
            recipe=self.spec.recipe,
            metric=self.ranking_metric.metric,
            goal=self.ranking_metric.goal,
            history=self.history,
            trained=tuple(name for name, parameter in model.named_parameters() if parameter.requires_grad),
            trainable_parameters=self.trainable_parameters,
            total_parameters=self.total_parameters,
            zero_stage=self.training.zero_stage,
            workers=self.training.workers_per_trial,
            precision=self.precision,
            versions=library_versions(),
        )

    def _place(self, step: int) -> str:
        return f"trial {self.spec.number}, optimizer step {step + 1} of {self.steps}"

    @property
    def _advice(self) -> str:
        return f"The learning rate was {self.spec.recipe.learning_rate:.3g}; lower its range, or clip gradients."
