"""Maps a trial's last event to its outcome: complete, pruned, failed, or an error that ends the search."""

from __future__ import annotations

import math
from dataclasses import dataclass

from finesearch.errors import FinesearchError, StorageError, TrialError
from finesearch.plan import COSTS, Plan
from finesearch.training.trial_types import Evaluation, TrialResult
from finesearch.tuning.messages import TrialCompleted, TrialFailed
from finesearch.tuning.study.journaled_trial import JournaledEvaluation, Outcome, OutcomeDetail
from finesearch.tuning.study.paused_trials import pauses_trials


@dataclass(frozen=True)
class BestCheckpoint:
    """The best evaluation of a stopped trial that has a checkpoint, and the checkpoint's folder or URI."""

    evaluation: Evaluation
    address: str


ACTOR_DIED = Outcome("failed", "its Ray Tune actor died three times; see the log of the node it ran on")


@dataclass(frozen=True)
class TrialOutcomes:
    """Turns worker reports into outcomes, by the objectives of a plan."""

    plan: Plan

    def quality(self, evaluation: Evaluation) -> float | None:
        """The metric of an evaluation; None where it is missing or not finite: it must never reach the sampler."""
        value = evaluation.metrics.get(self.plan.task.metric)
        return value if value is not None and math.isfinite(value) else None

    def of_unmeasured(self, evaluation: Evaluation) -> Outcome:
        """Outcome of a trial with an evaluation that has no :meth:`quality`."""
        name = self.plan.task.metric
        return Outcome("failed", f"{name} was {evaluation.metrics.get(name)} at evaluation {evaluation.step}")

    def of_stopped(
        self, last: JournaledEvaluation | None, stop_reason: str | None, checkpoint: BestCheckpoint | None = None
    ) -> Outcome:
        """Outcome of a trial that was stopped after its ``last`` evaluation, by the pruner or because the search ends
        (``stop_reason``: why). checkpoint: the one that it may be ranked by."""
        if last is None:
            return Outcome("pruned", f"pruned by {self.plan.search.pruner} at evaluation 0")
        if last.go_on:
            reason = f"stopped at evaluation {last.step}: {stop_reason or 'the search was stopped'}"
        elif pauses_trials(self.plan):
            reason = f"paused by freeze_thaw at evaluation {last.step}"
        else:
            reason = f"pruned by {self.plan.search.pruner} at evaluation {last.step}"
        detail = OutcomeDetail(
            seconds=last.seconds, trainable_parameters=last.trainable_parameters, group=last.group, began=last.began
        )
        if checkpoint is not None:
            best = Evaluation(**{name: getattr(checkpoint.evaluation, name) for name in Evaluation.model_fields})
            detail = detail.model_copy(update={"best": best, "checkpoint": checkpoint.address})
        return Outcome("pruned", reason, detail=detail)

    def of_completed(self, completed: TrialCompleted, is_baseline: bool) -> Outcome:
        """Outcome of a trial that ran to its end."""
        detail = OutcomeDetail(
            **completed.result.model_dump(exclude={"history"}), group=completed.group, began=completed.began
        )
        names = [objective.name for objective in self.plan.objectives]
        if is_baseline:  # compared by the metric alone: their study has one objective
            names = names[:1]
        try:
            values = tuple(_objective(name, completed.result) for name in names)
        except KeyError as missing:
            return Outcome("failed", f"the trial reported no {missing}", detail=detail)
        if not all(map(math.isfinite, values)):
            objectives = dict(zip(names, values, strict=True))
            return Outcome("failed", f"an objective is not finite: {objectives}", detail=detail)
        return Outcome("complete", None, values, detail)


def of_failed(failed: TrialFailed) -> Outcome:
    """Outcome of a trial that failed without ending the search."""
    known = {"group": failed.group, "began": failed.began} if failed.group is not None else {}
    return Outcome("failed", failed.reason, detail=OutcomeDetail.model_validate(known))


def _objective(name: str, result: TrialResult) -> float:
    if name in COSTS:
        return float(getattr(result, name))
    return (result.best.metrics if result.best else {})[name]


def worker_error(failed: TrialFailed) -> FinesearchError:
    """The worker's exception, rebuilt by class name; a class outside of ``errors.py`` becomes a ``TrialError``."""
    import finesearch.errors

    kind = getattr(finesearch.errors, str(failed.error), None)
    if isinstance(kind, type) and issubclass(kind, FinesearchError) and kind is not finesearch.errors.Interrupted:
        return kind(failed.reason)
    return StorageError(failed.reason) if failed.error == "OSError" else TrialError(failed.reason)
