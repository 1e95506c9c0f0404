"""One trial of the journal: the only place that reads and writes its Optuna attributes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass
from typing import Any, Literal

from optuna.trial import FrozenTrial, TrialState
from pydantic import ConfigDict

from finesearch.plan import ADAPTATIONS, Plan, Recipe, Scalar
from finesearch.training.trial_types import Evaluation, FrozenRecord
from finesearch.tuning.messages import EvaluationReport

STEP = "step:"
OUTCOME = "outcome"
ASKED = "asked"
Ended = Literal["complete", "pruned", "failed"]
State = Literal[Ended, "running"]
ENDED: Mapping[Ended, TrialState] = {
    "complete": TrialState.COMPLETE,
    "pruned": TrialState.PRUNED,
    "failed": TrialState.FAIL,
}


class JournaledEvaluation(EvaluationReport):
    """An evaluation with its verdict; ``system``: the trial's system attributes that the pruner changed with it.

    ``value`` is the first objective, ``at`` the Unix seconds of the verdict. ``spared``: the pruner rejected the trial,
    which goes on because its end costs less than stopping it saves.
    """

    model_config = ConfigDict(extra="ignore")

    value: float
    go_on: bool
    spared: bool = False
    system: dict[str, Any] = {}
    at: float


class OutcomeDetail(FrozenRecord):
    """Details of a trial that has ended; unset fields are not stored.

    A complete trial has all of them (see ``TrialResult``). A stopped one has those of its last evaluation, and ``best``
    and ``checkpoint`` where it left one that may be ranked. ``resume_error``: why it could not go on to its end.
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
    resume_error: str | None = None


@dataclass(frozen=True)
class Outcome:
    """How a trial ended; ``at``: Unix seconds, set by the journal."""

    state: Ended
    reason: str | None = None
    values: tuple[float, ...] | None = None
    detail: OutcomeDetail = OutcomeDetail()
    at: float | None = None

    def to_attribute(self) -> dict[str, Any]:
        """JSON."""
        values = None if self.values is None else list(self.values)
        said = {"state": self.state, "values": values, "reason": self.reason, "at": self.at}
        return {**self.detail.model_dump(mode="json", exclude_unset=True), **said}


@dataclass(frozen=True)
class JournaledTrial:
    """One trial.

    ``parameters`` holds the active ones, ``evaluations`` those with a verdict, by step and in order. ``label`` and
    ``recipe`` are set for the trial of a fixed recipe. ``outcome`` is None while it runs. ``started_at`` is the Unix
    time at which it was created. ``stopped`` is set once a stopped trial has gone on: how it was stopped before.
    ``resumes`` is set in the study of resumed trials (see ``resumable_journal.py``): the number of the trial.
    ``to_end``: it was resumed to go on to its end.
    """

    number: int
    state: State
    parameters: Mapping[str, Scalar]
    evaluations: Mapping[int, JournaledEvaluation]
    _: KW_ONLY
    values: tuple[float, ...] | None = None
    outcome: Outcome | None = None
    started_at: float | None = None
    label: str | None = None
    recipe: Recipe | None = None
    stopped: Outcome | None = None
    resumes: int | None = None
    to_end: bool = False

    @classmethod
    def read(cls, trial: FrozenTrial, known: dict[int, JournaledEvaluation] | None = None) -> JournaledTrial:
        """From Optuna's trial.

        known: evaluations of it that were read before; the others are added.
        """
        asked = trial.user_attrs.get(ASKED) or {}
        recipe = asked.get("recipe")
        return cls(
            number=trial.number,
            state=next((name for name, state in ENDED.items() if state is trial.state), "running"),
            parameters=asked.get("parameters", {}),
            evaluations=journaled_evaluations(trial, known),
            values=None if trial.values is None else tuple(trial.values),
            # The outcome is written before the state changes.
            outcome=journaled_outcome(trial) if trial.state.is_finished() else None,
            started_at=None if trial.datetime_start is None else trial.datetime_start.timestamp(),
            label=asked.get("label"),
            recipe=None if recipe is None else Recipe.model_validate(recipe),
            resumes=asked.get("resumes"),
            to_end=asked.get("to_end", "resumes" in asked),
        )

    @property
    def is_finished(self) -> bool:
        return self.state != "running"

    @property
    def last(self) -> JournaledEvaluation | None:
        """Its last evaluation, if there is one."""
        return self.evaluations[max(self.evaluations)] if self.evaluations else None

    @property
    def detail(self) -> OutcomeDetail:
        """Details of its end; empty while it runs."""
        return OutcomeDetail() if self.outcome is None else self.outcome.detail

    @property
    def rankable(self) -> Outcome | None:
        """How it ended, if the report may rank that: it is complete, or was stopped and left a checkpoint. Of a trial
        that goes on, how it was stopped."""
        ended = self.outcome or self.stopped
        if ended is None or ended.state == "complete":
            return ended
        return ended if ended.state == "pruned" and ended.detail.best and ended.detail.checkpoint else None

    @property
    def seconds(self) -> float:
        """Training seconds, over all of its resumes."""
        last = max((evaluation.seconds for evaluation in self.evaluations.values()), default=0.0)
        return max(last, self.detail.seconds or 0.0)


def recipe_of(trial: JournaledTrial, plan: Plan) -> Recipe:
    """The recipe of a trial of a plan."""
    return trial.recipe or plan.space.recipe(trial.parameters, plan.training, plan.task.pooling)


def planned_evaluations(trial: JournaledTrial, plan: Plan) -> int | None:
    """Number of evaluations of the whole trial without early stopping; None before its first one."""
    if not trial.evaluations:
        return None
    recipe, first = recipe_of(trial, plan), trial.evaluations[min(trial.evaluations)]
    if not ADAPTATIONS[recipe.adaptation].trains:
        return 1
    # An epoch with fewer steps than evaluations is evaluated after every step, first after one in so many.
    in_an_epoch = min(plan.training.evaluations_per_epoch, round(first.step / first.epoch) if first.epoch else 1)
    return recipe.epochs * max(1, in_an_epoch)


def journaled_evaluations(
    trial: FrozenTrial, known: dict[int, JournaledEvaluation] | None = None
) -> dict[int, JournaledEvaluation]:
    """Evaluations of a trial that were journaled with their verdict, by step, in order.

    known: see :meth:`JournaledTrial.read`.
    """
    known = {} if known is None else known
    steps = sorted(int(key[len(STEP) :]) for key in trial.user_attrs if key.startswith(STEP))
    for step in steps:
        if step not in known:
            known[step] = JournaledEvaluation.model_validate(trial.user_attrs[f"{STEP}{step}"])
    return {step: known[step] for step in steps}


def journaled_outcome(trial: FrozenTrial) -> Outcome | None:
    """How a trial ended, or will end by a journaled decision; None while it runs."""
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
