"""What the journal keeps of a trial as Optuna user attributes: the one place that knows their JSON."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from optuna.trial import FrozenTrial
from pydantic import ConfigDict

from finesearch.plan import Plan, Recipe, Scalar
from finesearch.training.trial_types import Evaluation, FrozenRecord
from finesearch.tuning.messages import EvaluationReport

STEP = "step:"
OUTCOME = "outcome"
ASKED = "asked"


class AskedTrial(FrozenRecord):
    """What a trial was asked to try: drawn ``parameters``, or the fixed ``recipe`` of the baseline ``label``."""

    model_config = ConfigDict(extra="ignore")

    parameters: dict[str, Scalar]
    label: str | None = None
    recipe: Recipe | None = None


class JournaledEvaluation(EvaluationReport):
    """An evaluation with its verdict; ``system``: the trial's system attributes that the pruner changed over it.

    ``value`` is the first objective, ``at`` the Unix seconds of the verdict.
    """

    model_config = ConfigDict(extra="ignore")

    value: float
    go_on: bool
    system: dict[str, Any] = {}
    at: float


class OutcomeDetail(FrozenRecord):
    """What is known of a trial that has ended, beside how it ended; only what was given is kept.

    A complete trial has all of it (see ``TrialResult``), a stopped one what its last evaluation said.
    """

    model_config = ConfigDict(extra="ignore")

    stopped: bool | None = None
    best: Evaluation | None = None
    checkpoint: str | None = None
    trainable_parameters: int | None = None
    total_parameters: int | None = None
    seconds: float | None = None
    tokens: int | None = None
    checkpoint_bytes: int | None = None
    warnings: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    group: str | None = None
    began: float | None = None


@dataclass(frozen=True)
class Outcome:
    """How a trial ended; ``at``: Unix seconds, set by the journal."""

    state: Literal["complete", "pruned", "failed"]
    reason: str | None = None
    values: tuple[float, ...] | None = None
    detail: OutcomeDetail = OutcomeDetail()
    at: float | None = None

    def to_attribute(self) -> dict[str, Any]:
        """JSON."""
        values = None if self.values is None else list(self.values)
        said = {"state": self.state, "values": values, "reason": self.reason, "at": self.at}
        return {**self.detail.model_dump(mode="json", exclude_unset=True), **said}


def asked_of(trial: FrozenTrial) -> AskedTrial:
    """What a trial was asked to try."""
    return AskedTrial.model_validate(trial.user_attrs[ASKED])


def recipe_of(trial: FrozenTrial, plan: Plan) -> Recipe:
    """The recipe of a trial of a plan."""
    asked = asked_of(trial)
    return asked.recipe or plan.space.recipe(asked.parameters, plan.training)


def journaled_evaluations(trial: FrozenTrial) -> dict[int, JournaledEvaluation]:
    """Evaluations of a trial that were journaled with their verdict, by step, in order."""
    found = {int(k[len(STEP) :]): v for k, v in trial.user_attrs.items() if k.startswith(STEP)}
    return {step: JournaledEvaluation.model_validate(found[step]) for step in sorted(found)}


def last_evaluation(trial: FrozenTrial) -> JournaledEvaluation | None:
    """The latest of :func:`journaled_evaluations`; None before the first."""
    return next(reversed(journaled_evaluations(trial).values()), None)


def outcome_of(trial: FrozenTrial) -> Outcome:
    """How a trial ended that has ended."""
    outcome = journaled_outcome(trial)
    assert outcome is not None, f"trial {trial.number} has not ended"
    return outcome


def journaled_outcome(trial: FrozenTrial) -> Outcome | None:
    """How a trial ended; None while it runs."""
    kept = trial.user_attrs.get(OUTCOME)
    if kept is None:
        return None
    values = kept["values"]
    return Outcome(
        state=kept["state"],
        reason=kept["reason"],
        values=None if values is None else tuple(values),
        detail=OutcomeDetail.model_validate(kept),
        at=kept.get("at"),
    )
