"""One attempt at a trial as each rank sees it: its spec, its processes, its checkpoint store and its callbacks."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from finesearch.training.checkpointing.checkpoint_record import CheckpointRecord, library_versions
from finesearch.training.trial_types import Evaluation, StepProgress

if TYPE_CHECKING:
    from finesearch.plan import Recipe, TrainingPlan
    from finesearch.training.checkpointing.checkpoint_store import CheckpointStore
    from finesearch.training.checkpointing.preemption_state import PreemptionCheck
    from finesearch.training.metric_history import RankingMetric
    from finesearch.training.model.base_model import PretrainedBase
    from finesearch.training.model.dimensions import ParameterCounts
    from finesearch.training.runtime.distributed import Processes
    from finesearch.training.task_context import TaskContext
    from finesearch.training.trial_types import TrialSpec

Report = Callable[[Evaluation], bool]


@dataclass(frozen=True, eq=False)
class TrialCallbacks:
    """Callbacks of a trial; see ``TrialRunner.run``.

    report: called with each evaluation that training may continue after. report_last: called with the trial's last one.
    on_step: called after each optimizer step, on every rank.
    """

    report: Report
    report_last: Report
    beat: Callable[[], None]
    is_preemption_pending: PreemptionCheck | None = None
    on_step: Callable[[StepProgress], None] | None = None


@dataclass(frozen=True, eq=False, kw_only=True)
class Attempt:
    """The inputs of an attempt, never changed. ``spec.directory`` is the folder of the ``store``."""

    spec: TrialSpec
    training: TrainingPlan
    ranking_metric: RankingMetric
    context: TaskContext
    processes: Processes
    store: CheckpointStore
    callbacks: TrialCallbacks

    @property
    def recipe(self) -> Recipe:
        return self.spec.recipe

    @property
    def base(self) -> PretrainedBase:
        """The base model with the recipe's head."""
        return self.context.bases.of(self.recipe)

    @property
    def steps_per_epoch(self) -> int:
        """Optimizer steps of one epoch; the last may be on a smaller batch."""
        return math.ceil(len(self.context.tokens.train) / self.recipe.batch_size)

    @property
    def steps(self) -> int:
        """Optimizer steps of the whole trial."""
        return self.steps_per_epoch * self.recipe.epochs

    def checkpoint_record(
        self,
        *,
        history: tuple[Evaluation, ...],
        trained: tuple[str, ...],
        parameters: ParameterCounts,
        zero_stage: int,
        precision: str,
    ) -> CheckpointRecord:
        """The record of a checkpoint that holds the weights named ``trained``, after ``history``."""
        return CheckpointRecord(
            base=self.context.base_reference,
            kind=self.context.task.kind,
            facts=self.context.facts.model_dump(mode="json"),
            trial=self.spec.number,
            attempt=self.spec.attempt,
            seed=self.spec.seed,
            recipe=self.recipe,
            metric=self.ranking_metric.metric,
            goal=self.ranking_metric.goal,
            history=history,
            trained=trained,
            trainable_parameters=parameters.trainable,
            total_parameters=parameters.total,
            zero_stage=zero_stage,
            workers=self.training.workers_per_trial,
            precision=precision,
            versions=library_versions(),
        )
