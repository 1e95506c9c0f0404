"""What the last word of a trial means: complete, stopped, failed, or the end of the whole search."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from finesearch.errors import FinesearchError, StorageError, TrialError
from finesearch.plan import Plan
from finesearch.tuning.study.journal import Outcome
from finesearch.tuning.study.journaled_trial import JournaledEvaluation, JournaledTrial

KEPT_OF_A_STOPPED_TRIAL = ("seconds", "trainable_parameters", "group", "began")
ACTOR_DIED = Outcome("failed", "its Ray Tune actor died three times; see the log of the node it ran on")


@dataclass(frozen=True)
class TrialOutcomes:
    """Reads what workers tell by the objectives of a plan."""

    plan: Plan

    def quality(self, payload: Mapping[str, Any]) -> float | None:
        """The metric of an evaluation; None where it is missing or not finite: such a trial must never be told."""
        value = payload["metrics"].get(self.plan.task.metric)
        return float(value) if value is not None and math.isfinite(value) else None

    def of_stopped(self, trial: JournaledTrial, payload: Mapping[str, Any], stop_reason: str | None) -> Outcome:
        """A trial whose last word is an evaluation, after which it was not to go on."""
        if self.quality(payload) is None:
            name = self.plan.task.metric
            return Outcome("failed", f"{name} was {payload['metrics'].get(name)} at evaluation {payload['step']}")
        return self.pruned(trial.last, stop_reason)

    def pruned(self, last: JournaledEvaluation | None, stop_reason: str | None) -> Outcome:
        """A trial that was stopped after its evaluation ``last``, by the pruner or because the search is
        ``stop_reason``: why."""
        if last is None or not last.go_on:
            reason = f"pruned by {self.plan.search.pruner} at evaluation {0 if last is None else last.step}"
        else:
            reason = f"stopped at evaluation {last.step}: {stop_reason or 'the search was stopped'}"
        told = {} if last is None else {key: getattr(last, key) for key in KEPT_OF_A_STOPPED_TRIAL}
        return Outcome("pruned", reason, detail={key: value for key, value in told.items() if value is not None})

    def of_ended(self, payload: Mapping[str, Any], is_baseline: bool) -> Outcome:
        """A trial that ran to its end, or failed."""
        detail = payload.get("detail") or {}
        if payload["state"] == "failed":
            return Outcome("failed", payload["reason"], detail=detail)
        names = [objective.name for objective in self.plan.objectives]
        if is_baseline:  # compared by the metric alone: their study has one objective
            names = names[:1]
        try:
            values = tuple(float(_objective(name, detail)) for name in names)
        except KeyError as missing:
            return Outcome("failed", f"the trial reported no {missing}", detail=detail)
        if not all(map(math.isfinite, values)):
            told = dict(zip(names, values, strict=True))
            return Outcome("failed", f"an objective is not finite: {told}", detail=detail)
        return Outcome("complete", None, values, detail)


def _objective(name: str, detail: Mapping[str, Any]) -> float:
    if name in detail:  # a cost: seconds, trainable_parameters, checkpoint_bytes
        return float(detail[name])
    return float(detail["best"]["metrics"][name])


def payload_error(payload: Mapping[str, Any]) -> FinesearchError:
    """The exception that a worker met, remade by name; what is not of our tree is a trial error."""
    import finesearch.errors

    kind = getattr(finesearch.errors, str(payload.get("error")), None)
    if isinstance(kind, type) and issubclass(kind, FinesearchError) and kind is not finesearch.errors.Interrupted:
        return kind(payload["reason"])
    return StorageError(payload["reason"]) if payload.get("error") == "OSError" else TrialError(payload["reason"])
