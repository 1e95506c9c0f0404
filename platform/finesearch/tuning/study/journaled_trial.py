"""One trial as the journal has it: what Optuna keeps of it as attributes is read here and nowhere else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Literal

from optuna.trial import FrozenTrial, TrialState

from finesearch.plan import Scalar

STEP = "step:"
OUTCOME = "outcome"
ASKED = "asked"
State = Literal["complete", "pruned", "failed", "running"]
ENDED: Mapping[State, TrialState] = {
    "complete": TrialState.COMPLETE,
    "pruned": TrialState.PRUNED,
    "failed": TrialState.FAIL,
}


@dataclass(frozen=True)
class JournaledEvaluation:
    """One evaluation with its verdict.

    ``value`` is the quality metric; ``seconds`` and ``tokens`` are what the trial has cost so far; ``group`` names its
    workers, and ``began`` is the Unix time at which they began with it.
    """

    step: int
    value: float
    go_on: bool = True
    epoch: float = 0.0
    metrics: Mapping[str, float] = field(default_factory=dict)
    train_loss: float | None = None
    seconds: float = 0.0
    tokens: int | None = None
    trainable_parameters: int | None = None
    group: str | None = None
    began: float | None = None

    @classmethod
    def read(cls, step: int, kept: Mapping[str, Any]) -> JournaledEvaluation:
        """From the note of a trial."""
        return cls(**{**_known(cls, kept), "step": step})


@dataclass(frozen=True)
class JournaledOutcome:
    """How a trial ended; ``at`` is the Unix time of that, ``best`` the metrics of its best evaluation. What a trial did
    not come to tell is None."""

    state: State
    reason: str | None = None
    at: float | None = None
    best: Mapping[str, float] | None = None
    checkpoint: str | None = None
    seconds: float | None = None
    tokens: int | None = None
    trainable_parameters: int | None = None
    group: str | None = None
    began: float | None = None
    notes: Sequence[str] = ()
    warnings: Sequence[str] = ()

    @classmethod
    def read(cls, kept: Mapping[str, Any]) -> JournaledOutcome:
        """From the note of a trial."""
        return cls(**{**_known(cls, kept), "best": (kept.get("best") or {}).get("metrics")})


@dataclass(frozen=True)
class JournaledTrial:
    """One trial.

    ``parameters`` holds those that were active, ``evaluations`` those with a verdict, by step. ``label`` and ``recipe``
    belong to the trial of a fixed recipe. ``outcome`` is None while it runs. ``started_at`` is the Unix time at which
    it was asked for.
    """

    number: int
    state: State
    parameters: Mapping[str, Scalar]
    evaluations: Mapping[int, JournaledEvaluation]
    values: tuple[float, ...] | None = None
    outcome: JournaledOutcome | None = None
    started_at: float | None = None
    label: str | None = None
    recipe: Mapping[str, Any] | None = None

    @classmethod
    def read(cls, trial: FrozenTrial) -> JournaledTrial:
        """From Optuna's trial."""
        asked, kept = trial.user_attrs.get(ASKED) or {}, journaled_evaluations(trial)
        # An end is noted before the state changes.
        told = trial.user_attrs.get(OUTCOME) if trial.state.is_finished() else None
        return cls(
            number=trial.number,
            state=next((name for name, state in ENDED.items() if state is trial.state), "running"),
            parameters=asked.get("parameters", {}),
            evaluations={step: JournaledEvaluation.read(step, kept[step]) for step in sorted(kept)},
            values=None if trial.values is None else tuple(trial.values),
            outcome=None if told is None else JournaledOutcome.read(told),
            started_at=None if trial.datetime_start is None else trial.datetime_start.timestamp(),
            label=asked.get("label"),
            recipe=asked.get("recipe"),
        )

    @property
    def is_finished(self) -> bool:
        return self.state != "running"

    @property
    def last(self) -> JournaledEvaluation | None:
        """Its last evaluation, if there is one."""
        return self.evaluations[max(self.evaluations)] if self.evaluations else None


def journaled_evaluations(trial: FrozenTrial) -> dict[int, dict[str, Any]]:
    """Evaluations of a trial that were journaled with their verdict, by step, as they are kept: JSON."""
    return {int(k[len(STEP) :]): v for k, v in trial.user_attrs.items() if k.startswith(STEP)}


def _known(kind: type[Any], kept: Mapping[str, Any]) -> dict[str, Any]:
    return {each.name: kept[each.name] for each in fields(kind) if each.name in kept}
