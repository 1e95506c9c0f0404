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
from finesearch.training.checkpoints.async_save import UnderWay
from finesearch.training.checkpoints.checkpoint_policy import Chosen, Keeping
from finesearch.training.checkpoints.checkpoint_record import CheckpointRecord, library_versions
from finesearch.training.checkpoints.checkpoint_writer import WEIGHTS, CheckpointWriter
from finesearch.training.checkpoints.preemption_state import IsLeaving, Pause, read_pause, write_pause
from finesearch.training.metric_history import Yardstick
from finesearch.training.regularizers.weight_average import RAW
from finesearch.training.runtime.counters import METER, TOKENS
from finesearch.training.runtime.heartbeat import alive
from finesearch.training.runtime.seeding import derived_seed, seed_dropout
from finesearch.training.steps.evaluate import Scoring, evaluate
from finesearch.training.steps.lr_schedule import evaluation_steps, learning_rate_factor
from finesearch.training.steps.optimizers import set_learning_rate
from finesearch.training.steps.train_step import Learner, count_tokens
from finesearch.training.trial_types import Evaluation, PutAside, Scored, TrialSpec

if TYPE_CHECKING:
    from finesearch.plan import TrainingPlan
    from finesearch.training.adaptations.unfreezing_schedule import Unfreezing
    from finesearch.training.prefix_cache.cached_outputs import Serving
    from finesearch.training.task_context import Materials

# A loss is looked at every so many steps: looking waits for the GPU, and for all ranks.
CHECK_EVERY = 10

ASK_EVERY_S = 1.0
"""How often it is asked whether processes are about to be taken away."""


def steps_per_epoch(materials: Materials, spec: TrialSpec) -> int:
    """Optimizer steps of one epoch; the last may be on a smaller batch."""
    return math.ceil(len(materials.tokens.train) / spec.recipe.batch_size)


@dataclass(eq=False)
class TrialRun:
    """The steps of one attempt. Every rank holds one, and they go in step."""

    spec: TrialSpec
    training: TrainingPlan
    materials: Materials
    yardstick: Yardstick
    learner: Learner
    writer: CheckpointWriter
    precision: str
    trainable_parameters: int
    total_parameters: int
    unfreezing: Unfreezing | None = None
    kept_outputs: Serving | None = None
    history: tuple[Evaluation, ...] = ()
    _beat: Callable[[], None] = lambda: None
    _under_way: UnderWay | None = None
    _epochs: dict[int, list[np.ndarray]] = field(default_factory=dict)
    _loss_sum: Any = 0.0
    _loss_units: float = 0.0
    _seconds: float = 0.0
    _tokens: int = 0
    _at_step: int | None = None
    _asked_at: float = -math.inf

    @cached_property
    def keeping(self) -> Keeping:
        return Keeping(self.writer, self.yardstick, self.spec.bar, self.spec.resume_pays, self.trainable_parameters)

    @property
    def steps_per_epoch(self) -> int:
        return steps_per_epoch(self.materials, self.spec)

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
        return len(self.history) >= len(self.evaluation_steps) or self.yardstick.is_out_of_patience(
            self.history, patience
        )

    def go_on_from(self, history: tuple[Evaluation, ...], kept: dict[int, Path]) -> None:
        """Take up where a checkpoint left off; ``kept`` are the intact checkpoints by evaluation number."""
        self.history = history
        self.keeping.go_on_from(history[-1], kept)
        self._seconds, self._tokens = history[-1].seconds, history[-1].tokens
        checkpoint = kept[history[-1].step]
        self.writer.read_optimizer_state(checkpoint)
        if (checkpoint / checkpoint_layout.RESUME / RAW).is_file():
            self.learner.regularizers.go_on_from(checkpoint / WEIGHTS)

    def go_on_from_pause(self, history: tuple[Evaluation, ...], kept: dict[int, Path], folder: Path) -> None:
        """Take up at a state between evaluations, as :meth:`go_on_from` does at one."""
        pause = read_pause(folder)
        self.history, self._at_step = history, pause.step
        resumable = max(
            (step for step, path in kept.items() if (path / checkpoint_layout.RESUME).is_dir()), default=None
        )
        self.keeping.go_on_from_pause(folder, pause.seconds, resumable, kept)
        self._seconds, self._tokens, self._loss_units = pause.seconds, pause.tokens, pause.loss_units
        self._loss_sum = pause.loss_sum if self.writer.processes.is_first else 0.0
        self.writer.read_optimizer_state(folder)
        if (folder / checkpoint_layout.RESUME / RAW).is_file():
            self.learner.regularizers.go_on_from(folder / WEIGHTS)

    def train(
        self,
        report: Callable[[Evaluation], bool],
        beat: Callable[[], None],
        is_leaving: IsLeaving | None = None,
    ) -> bool:
        """Train until the trial is over (True) or ``report`` asks for the end (False).

        ``report`` is called from a thread of rank 0, and training goes on meanwhile: what a trial did after an
        evaluation that ended it comes to nothing. The evaluation that ends the trial is left for the caller to report,
        who writes down the result first.

        Raises:
            DivergedError: the loss or the metric is NaN or infinite; on every rank.
            DiskFullError, TrialError: a checkpoint could not be written; on every rank.
            PutAside: processes are about to be taken away, and the state was written; on every rank.
        """
        self._beat = beat
        try:
            return self._train(report, is_leaving)
        finally:
            if self._under_way is not None:
                self._under_way.settle()

    def _train(self, report: Callable[[Evaluation], bool], is_leaving: IsLeaving | None) -> bool:
        first = self.evaluation_steps[len(self.history) - 1] if self.history else 0
        if self._at_step is not None:
            first = self._at_step
        self.learner.engine.train()
        resumed_at = time.perf_counter() - self._seconds
        for step in range(first, self.steps):
            self.optimize(step)
            self._beat()
            if step + 1 not in self.evaluation_steps:
                if not self._goes_on_after(step):
                    return False
                if is_leaving is not None and self._is_to_be_asked() and is_leaving():
                    return self._put_aside(step + 1, time.perf_counter() - resumed_at)
                continue
            stood_still_at = time.perf_counter()
            if not self._verdict():
                return False
            resumed_at += time.perf_counter() - stood_still_at
            train_loss = self._mean_loss(step)
            self._loss_sum, self._loss_units = 0.0, 0.0
            # Where weights are averaged, the average is what is scored and kept.
            with self.learner.regularizers.averaged():
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
                raw = self.learner.regularizers.raw_weights
                chosen = self.keeping.choose(self.history, self.is_over, self._record, raw)
            over = self.is_over
            self._send(chosen, (lambda _: True) if over else report)
            if (over or chosen.at_once) and not self._verdict():
                return False
            if over:
                return True
            # Copying, and whatever had to be waited for, is not training.
            resumed_at = time.perf_counter() - self._seconds
        raise AssertionError("the last optimizer step is always followed by an evaluation")

    def _send(self, chosen: Chosen, report: Callable[[Evaluation], bool]) -> None:
        """Set the newest evaluation on its way."""
        newest, began = self.history[-1], time.perf_counter()
        wanted = self.keeping.forget(self.history) if chosen.snapshots else None

        def tidy_and_report() -> bool:
            if chosen.resumes:
                self.keeping.seconds_to_write = time.perf_counter() - began
            if wanted is not None:
                self.keeping.tidy(wanted)
            return report(newest)

        self._under_way = UnderWay(self.writer, chosen.snapshots, tidy_and_report)

    def _verdict(self) -> bool:
        """What was said of the last evaluation that was sent on its way, once it is; True where there is none."""
        if self._under_way is None:
            return True
        sent, self._under_way = self._under_way, None
        with alive(self._beat):
            return sent.wait()

    def _goes_on_after(self, step: int) -> bool:
        """Look after the loss and the last evaluation's verdict, at steps at which all ranks can agree cheaply."""
        is_checked = (step + 1) % CHECK_EVERY == 0
        if self._under_way is not None and (is_checked or self.writer.processes.world_size == 1):
            verdict = self._under_way.poll()
            if verdict is not None:
                self._under_way = None
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

    def _is_to_be_asked(self) -> bool:
        """Whether it is time to ask again if processes are taken away: on rank 0's clock, agreed on."""
        now = time.monotonic()
        is_due = now - self._asked_at >= ASK_EVERY_S
        if not self.writer.processes.total(float(is_due and self.writer.processes.is_first))[0]:
            return False
        self._asked_at = now
        return True

    def _put_aside(self, step: int, seconds: float) -> bool:
        """Write what the next attempt goes on from after ``step`` optimizer steps; False where the trial was stopped.

        Raises:
            PutAside: it is written.
        """
        if not self._verdict():
            return False
        loss_sum = self.writer.processes.total(float(self._loss_sum))[0]
        pause = Pause(step=step, loss_sum=loss_sum, loss_units=self._loss_units, seconds=seconds, tokens=self._tokens)
        held = self.keeping.hand_over()
        if held is not None:
            UnderWay(self.writer, [held], lambda: True).wait()
        with self.learner.regularizers.averaged():
            raw = self.learner.regularizers.raw_weights
            snapshot = self.writer.take(self._record, len(self.history), True, raw, copy_moments=False)
        write_pause(self.writer, snapshot, pause)
        raise PutAside(f"{self._place(step - 1)}: written and put aside")

    def optimize(self, step: int) -> None:
        """Optimizer step ``step`` (0-based), with all that belongs to it."""
        recipe = self.spec.recipe
        factor = learning_rate_factor(recipe.schedule, step, self.steps, recipe.warmup_fraction)
        set_learning_rate(self.learner.engine.optimizer, recipe.learning_rate * factor)
        self.learner.regularizers.before_step(step, recipe.learning_rate * factor)
        if self.unfreezing is not None:
            self.unfreezing.enter(step, self.learner.engine)
        # Each step's dropout has a seed of its own, so that a resumed trial drops what it would have dropped.
        seed_dropout(derived_seed(self.spec.seed, "dropout", self.writer.processes.rank, step))
        batch = self.batch(step)
        loss_sum, units = self.learner.learn(batch)
        self.learner.regularizers.after_step(step, self.steps)
        self._loss_sum += loss_sum
        self._loss_units += units
        tokens = count_tokens(self.materials.tokens.train.lengths, batch)
        self._tokens += tokens
        if self.writer.processes.is_first:  # the batch is that of all ranks
            METER.add(TOKENS, tokens)

    def batch(self, step: int) -> np.ndarray:
        """Row numbers of the global batch of a step."""
        epoch, index = divmod(step, self.steps_per_epoch)
        if epoch not in self._epochs:
            seed = derived_seed(self.spec.seed, "batches")
            lengths = self.materials.tokens.train.lengths
            self._epochs = {epoch: training_batches(lengths, self.spec.recipe.batch_size, seed, epoch)}
        return self._epochs[epoch][index]

    def _mean_loss(self, step: int) -> float:
        """The mean loss of all units since the last evaluation, over all ranks."""
        mean = self.writer.processes.total(float(self._loss_sum))[0] / self._loss_units
        if not math.isfinite(mean):
            raise DivergedError(f"{self._place(step)}: the training loss became {mean}. {self._advice}")
        return mean

    def _evaluate(self, step: int) -> Scored:
        try:
            scored = evaluate(
                self.writer.model,
                self.materials.task,
                self.materials.base,
                self.materials.tokens.validation,
                self.writer.processes,
                Scoring(calibrate=True, metric=self.yardstick.metric),
                self.kept_outputs,
                self._beat,
            )
        except DivergedError as error:
            raise DivergedError(f"{self._place(step)}: {error.message}. {self._advice}") from error
        finally:
            self.learner.engine.train()
        for name, value in scored.metrics.items():
            if not math.isfinite(value):
                raise DivergedError(f"{self._place(step)}: metric {name} became {value}. {self._advice}")
        return scored

    @property
    def best(self) -> Evaluation | None:
        """The best evaluation whose checkpoint is there, or that can have none: see ``Keeping``."""
        return self.keeping.best(self.history)

    def _record(self) -> CheckpointRecord:
        model = self.writer.model
        return CheckpointRecord(
            base=self.materials.base_reference,
            kind=self.materials.task.kind,
            facts=self.materials.facts.model_dump(mode="json"),
            trial=self.spec.number,
            attempt=self.spec.attempt,
            seed=self.spec.seed,
            recipe=self.spec.recipe,
            metric=self.yardstick.metric,
            goal=self.yardstick.goal,
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
