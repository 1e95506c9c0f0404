"""The training loop of one attempt: optimizer steps, evaluations, checkpoints, early stopping, preemption."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from finesearch.errors import DivergedError
from finesearch.training.attempt import Attempt
from finesearch.training.checkpointing import checkpoint_layout
from finesearch.training.checkpointing.async_save import AsyncSave
from finesearch.training.checkpointing.checkpoint_policy import CheckpointPolicy, SaveDecision
from finesearch.training.checkpointing.checkpoint_record import CheckpointRecord
from finesearch.training.checkpointing.checkpoint_writer import WEIGHTS, CheckpointWriter
from finesearch.training.checkpointing.preemption_state import read_preemption_state, write_preemption_state
from finesearch.training.loop.evaluation_reports import EvaluationReports
from finesearch.training.loop.preemption_watch import PreemptionWatch
from finesearch.training.model.dimensions import ParameterCounts
from finesearch.training.regularizers.weight_average import RAW
from finesearch.training.steps.evaluate import ScoringOptions, evaluate
from finesearch.training.steps.lr_schedule import evaluation_steps
from finesearch.training.steps.optimizer_steps import OptimizerSteps
from finesearch.training.steps.training_progress import TrainingProgress
from finesearch.training.trial_types import Evaluation, Preempted, ScoredPredictions, StepProgress

if TYPE_CHECKING:
    from finesearch.training.prefix_cache.cached_outputs import CachedOutputs
    from finesearch.training.regularizers.active_regularizers import Regularizers

# The loss is checked every so many steps, because the check waits for the GPU and for all ranks.
LOSS_CHECK_INTERVAL_STEPS = 10


@dataclass(eq=False, kw_only=True)
class TrainingLoop:
    """The steps of one attempt. Every rank has a loop, and all run in lockstep.

    cached_outputs: of frozen blocks, for validation.
    """

    attempt: Attempt
    steps: OptimizerSteps
    writer: CheckpointWriter
    precision: str
    parameters: ParameterCounts
    cached_outputs: CachedOutputs | None = None
    history: tuple[Evaluation, ...] = field(default=(), init=False)
    _steps_done: int = field(default=0, init=False)
    _last_loss: float | None = field(default=None, init=False)

    @cached_property
    def checkpoint_policy(self) -> CheckpointPolicy:
        spec = self.attempt.spec
        return CheckpointPolicy(
            self.writer,
            self.attempt.ranking_metric,
            spec.bar,
            spec.resume_pays,
            self.parameters.trainable,
            may_be_stopped=spec.may_be_stopped,
        )

    @cached_property
    def reports(self) -> EvaluationReports:
        return EvaluationReports(self.attempt, self.checkpoint_policy)

    @property
    def progress(self) -> TrainingProgress:
        return self.steps.progress

    @property
    def regularizers(self) -> Regularizers:
        return self.steps.train_step.regularizers

    @cached_property
    def evaluation_steps(self) -> tuple[int, ...]:
        attempt = self.attempt
        return evaluation_steps(attempt.steps_per_epoch, attempt.recipe.epochs, attempt.training.evaluations_per_epoch)

    @property
    def warnings(self) -> tuple[str, ...]:
        wanted = self.attempt.recipe.epochs * self.attempt.training.evaluations_per_epoch
        if len(self.evaluation_steps) == wanted:
            return ()
        return (
            f"training.evaluations_per_epoch: an epoch has {self.attempt.steps_per_epoch} steps only, so that there "
            f"were {len(self.evaluation_steps)} evaluations instead of {wanted}.",
        )

    @property
    def is_over(self) -> bool:
        """Whether the epochs or the early-stopping patience are used up."""
        patience = self.attempt.recipe.early_stopping_patience
        return len(self.history) >= len(self.evaluation_steps) or self.attempt.ranking_metric.is_out_of_patience(
            self.history, patience
        )

    @property
    def best(self) -> Evaluation | None:
        """The best evaluation that has a checkpoint, or that can have none: see ``CheckpointPolicy``."""
        return self.checkpoint_policy.best(self.history)

    def resume_from(self, history: tuple[Evaluation, ...], kept: dict[int, Path]) -> None:
        """Resume from a checkpoint; ``kept`` are the intact checkpoints by evaluation number."""
        self.history, self._steps_done = history, self.evaluation_steps[len(history) - 1]
        self.checkpoint_policy.resume_from(history[-1], kept)
        self.progress.resume_from(history[-1])
        self._read_training_state(kept[history[-1].step])

    def resume_from_preemption(self, history: tuple[Evaluation, ...], kept: dict[int, Path], folder: Path) -> None:
        """Resume from a preemption state between evaluations; otherwise as :meth:`resume_from`."""
        pause = read_preemption_state(folder)
        self.history, self._steps_done = history, pause.step
        resumable = max(
            (step for step, path in kept.items() if (path / checkpoint_layout.RESUME).is_dir()), default=None
        )
        self.checkpoint_policy.resume_from_preemption(folder, pause.seconds, resumable, kept)
        self.progress.resume_from_preemption(pause)
        self._read_training_state(folder)

    def _read_training_state(self, folder: Path) -> None:
        """Read the resume state: optimizer state and, if weights are averaged, the raw weights."""
        self.writer.read_optimizer_state(folder)
        if (folder / checkpoint_layout.RESUME / RAW).is_file():
            self.regularizers.resume_from(folder / WEIGHTS)

    def train(self) -> bool:
        """Train until the trial is over (True) or ``report`` stops it (False).

        ``report`` is called from a thread of rank 0 while training continues: steps after an evaluation that ended the
        trial are discarded. The caller reports the evaluation that ends the trial, after writing the result.

        Raises:
            DivergedError: the loss or the metric is NaN or infinite; on every rank.
            DiskFullError, TrialError: a checkpoint could not be written; on every rank.
            Preempted: processes are about to be preempted, and the state was written; on every rank.
        """
        try:
            return self._train()
        finally:
            self.reports.wait_for_own_thread()

    def _train(self) -> bool:
        attempt = self.attempt
        watch = PreemptionWatch(attempt.processes, attempt.callbacks.is_preemption_pending)
        self.writer.engine.train()
        self.progress.start_clock()
        for step in range(self._steps_done, attempt.steps):
            self.steps.run(step)
            attempt.callbacks.beat()
            self._tell_progress(step)
            if step + 1 not in self.evaluation_steps:
                if not self._goes_on_after(step):
                    return False
                if watch.is_preempted():
                    return self._preempt(step + 1)
                continue
            self.progress.stop_clock()
            if not self.reports.wait():
                return False
            self.progress.start_clock()
            chosen = self._evaluate(step)
            over = self.is_over
            self.reports.send(self.history, chosen, (lambda _: True) if over else attempt.callbacks.report)
            if (over or chosen.at_once) and not self.reports.wait():
                return False
            if over:
                return True
            # Copying and waiting do not count as training time.
            self.progress.start_clock()
        raise AssertionError("the last optimizer step is always followed by an evaluation")

    def _evaluate(self, step: int) -> SaveDecision:
        """Evaluate after a step and add it to the history; returns what to write."""
        train_loss = self._mean_loss(step)
        self.progress.clear_loss()
        # If weights are averaged, the average is scored and saved.
        with self.regularizers.averaged():
            scored = self._score(step)
            self.progress.stop_clock()
            evaluation = Evaluation(
                step=len(self.history) + 1,
                epoch=(step + 1) / self.attempt.steps_per_epoch,
                metrics=scored.metrics,
                train_loss=train_loss,
                seconds=self.progress.seconds,
                tokens=self.progress.tokens,
                trainable_parameters=self.parameters.trainable,
                decision=scored.decision,
            )
            self.history += (evaluation,)
            raw = self.regularizers.raw_weights
            return self.checkpoint_policy.decide(self.history, self.is_over, self._record, raw)

    def _tell_progress(self, step: int) -> None:
        on_step, attempt = self.attempt.callbacks.on_step, self.attempt
        if on_step is not None:
            epoch, rate = (step + 1) / attempt.steps_per_epoch, self.progress.tokens_per_s()
            on_step(StepProgress(epoch, attempt.recipe.epochs, rate, self._last_loss))

    def _goes_on_after(self, step: int) -> bool:
        """Check the loss and the caller's decision on the last evaluation, at steps where ranks can agree cheaply."""
        is_checked = (step + 1) % LOSS_CHECK_INTERVAL_STEPS == 0
        if (is_checked or self.attempt.processes.world_size == 1) and not self.reports.poll():
            return False
        if is_checked:
            try:
                self._mean_loss(step)
            except DivergedError:
                # The trial may have been stopped before.
                if not self.reports.wait():
                    return False
                raise
        return True

    def _preempt(self, step: int) -> bool:
        """Write the preemption state after ``step`` optimizer steps; False if the trial was stopped.

        Raises:
            Preempted: the state is written.
        """
        self.progress.stop_clock()
        if not self.reports.wait():
            return False
        pause = self.progress.preemption_state(step)
        held = self.checkpoint_policy.take_held_snapshot()
        if held is not None:
            AsyncSave(self.writer, [held], lambda: True).wait()
        with self.regularizers.averaged():
            raw = self.regularizers.raw_weights
            snapshot = self.writer.take_snapshot(self._record, len(self.history), True, raw, copy_moments=False)
        write_preemption_state(self.writer, snapshot, pause)
        raise Preempted(f"{self._place(step - 1)}: written and put aside")

    def _mean_loss(self, step: int) -> float:
        """The mean loss of all units since the last evaluation, over all ranks."""
        mean = self.progress.mean_loss()
        if not math.isfinite(mean):
            raise DivergedError(f"{self._place(step)}: the training loss became {mean}. {self._advice}")
        self._last_loss = mean
        return mean

    def _score(self, step: int) -> ScoredPredictions:
        context, metric = self.attempt.context, self.attempt.ranking_metric.metric
        try:
            scored = evaluate(
                self.writer.model,
                context.task,
                self.attempt.base,
                context.tokens.validation,
                self.attempt.processes,
                scoring=ScoringOptions(calibrate=True, metric=metric),
                cached_outputs=self.cached_outputs,
                beat=self.attempt.callbacks.beat,
            )
        except DivergedError as error:
            raise DivergedError(f"{self._place(step)}: {error.message}. {self._advice}") from error
        finally:
            self.writer.engine.train()
        for name, value in scored.metrics.items():
            if not math.isfinite(value):
                raise DivergedError(f"{self._place(step)}: metric {name} became {value}. {self._advice}")
        return scored

    def _record(self) -> CheckpointRecord:
        named = self.writer.model.named_parameters()
        return self.attempt.checkpoint_record(
            history=self.history,
            trained=tuple(name for name, parameter in named if parameter.requires_grad),
            parameters=self.parameters,
            zero_stage=self.attempt.training.zero_stage,
            precision=self.precision,
        )

    def _place(self, step: int) -> str:
        return f"trial {self.attempt.spec.number}, optimizer step {step + 1} of {self.attempt.steps}"

    @property
    def _advice(self) -> str:
        return f"The learning rate was {self.attempt.recipe.learning_rate:.3g}; lower its range, or clip gradients."
