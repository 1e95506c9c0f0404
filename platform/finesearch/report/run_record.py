"""The record from which a report is made: all trials, test scores, costs, and facts to reproduce the search.

A record is complete: the report reads nothing else, so the same record always gives the same pages. Non-finite numbers
(a loss that became NaN) are stored as None, because strict JSON has none and they tell a reader nothing; the trial's
``reason`` says what happened.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, JsonValue, model_validator

Goal = Literal["max", "min"]
State = Literal["complete", "pruned", "failed", "running"]
Scalar = bool | int | float | str | None

Item = TypeVar("Item")

# A list is accepted and stored as a tuple, so that a frozen record cannot change.
FrozenSequence = Annotated[Sequence[Item], AfterValidator(tuple)]


def finite_or_none(value: Any) -> Any:
    """The value with None in place of every non-finite float in it.

    >>> finite_or_none(0.5), finite_or_none({"seconds": [float("nan"), 2]})
    (0.5, {'seconds': [None, 2]})
    """
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {key: finite_or_none(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [finite_or_none(inner) for inner in value]
    return value


FiniteOrNone = Annotated[float | None, BeforeValidator(finite_or_none)]
JsonObject = Annotated[dict[str, JsonValue], BeforeValidator(finite_or_none)]
Interval = tuple[float, float]


class ReportModel(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", from_attributes=True, allow_inf_nan=False)


class ObjectiveRow(ReportModel):
    """One objective of the search; the first of a record is its quality metric."""

    name: str
    goal: Goal


class StepRow(ReportModel):
    """One evaluation of one trial.

    ``step`` counts evaluations from 1; ``value`` is the quality metric on validation; ``seconds`` is training time
    since the trial's first step, accumulated over resumes.
    """

    step: int = Field(ge=1)
    epoch: FiniteOrNone = None
    value: FiniteOrNone = None
    metrics: dict[str, FiniteOrNone] = {}
    train_loss: FiniteOrNone = None
    seconds: FiniteOrNone = None


class TrialRow(ReportModel):
    """One trial: its parameters, its evaluations and why it ended.

    ``values`` has one number an objective, None for a trial without a result. ``parameters`` holds only drawn ones.
    ``started`` and ``finished`` are Unix times in seconds. A trial that was stopped before its end has ``stopped_at``,
    its last evaluation, and ``best``, the value of the best evaluation that left a checkpoint (None where none did).
    ``evaluations`` is how many the whole trial has without early stopping.
    """

    trial: int = Field(ge=0)
    state: State
    reason: str | None = None
    parameters: dict[str, Scalar] = {}
    values: FrozenSequence[FiniteOrNone] | None = None
    history: FrozenSequence[StepRow] = ()
    trainable_parameters: int | None = None
    seconds: float = 0.0
    device_seconds: float = 0.0
    started: float | None = None
    finished: float | None = None
    group: str | None = None
    checkpoint: str | None = None
    warnings: FrozenSequence[str] = ()
    stopped_at: int | None = None
    evaluations: int | None = None
    best: FiniteOrNone = None

    @property
    def ranking_value(self) -> float | None:
        """The quality metric by which the trial may be ranked; None where it may not."""
        complete = self.values[0] if self.state == "complete" and self.values else None
        return self.best if self.state == "pruned" else complete

    @property
    def value(self) -> float | None:
        """The quality metric on validation: the first objective, or for an unfinished trial its last evaluation."""
        if self.values:
            return self.values[0]
        reported = [step.value for step in self.history if step.value is not None]
        return reported[-1] if reported else None


class ScoredRow(ReportModel):
    """One checkpoint or baseline as it was scored after the search.

    ``validation`` is the score that the trial reported, ``revalidated`` that of the reloaded checkpoint on the same
    split, ``test_interval`` a 95 % bootstrap interval. ``gain_interval`` is optional: the 95 % interval of the paired
    difference on test to the ordinary recipe, positive where this row is better, for either goal; ``gain_intervals``
    holds the same to each baseline that has a score, by its name. ``generation`` holds the generation settings that
    were chosen on validation after training, ``chosen_validation`` the score there with them; test is scored with them,
    and they are part of the ranked system. A row with an ``error`` is shown with it and never counts as ranked.
    ``stopped_at`` and ``evaluations``: see :class:`TrialRow`; ``validation`` is that of the trial's best checkpoint.
    """

    name: str
    trial: int | None = None
    validation: FiniteOrNone = None
    revalidated: FiniteOrNone = None
    test: FiniteOrNone = None
    test_interval: Interval | None = None
    gain_interval: Interval | None = None
    gain_intervals: dict[str, Interval] = {}
    validation_metrics: dict[str, FiniteOrNone] = {}
    test_metrics: dict[str, FiniteOrNone] = {}
    parameters: dict[str, Scalar] = {}
    trainable_parameters: int | None = None
    seconds: float | None = None
    checkpoint: str | None = None
    error: str | None = None
    stopped_at: int | None = None
    evaluations: int | None = None
    generation: dict[str, Scalar] = {}
    chosen_validation: FiniteOrNone = None

    @property
    def ranking_score(self) -> float | None:
        """The validation score by which rows are ordered."""
        return self.validation if self.chosen_validation is None else self.chosen_validation


class ClassScores(ReportModel):
    """Precision, recall and F1 of one system on one class; 0 where it was never predicted, or never true."""

    precision: float
    recall: float
    f1: float


class ClassRow(ReportModel):
    """One class, entity type or relation. ``rows``: how often it is true in test; ``scores`` by system."""

    name: str
    rows: int
    scores: dict[str, ClassScores]


class GroupRow(ReportModel):
    """Rows of test that share a property ``by``, such as the length of the input.

    ``scores`` and ``intervals`` (95 %, bootstrap) hold the quality metric by system. ``gain_interval`` is that of the
    paired difference between the best checkpoint and the breakdown's ``before``, positive where the checkpoint is
    better.
    """

    by: str
    group: str
    rows: int
    scores: dict[str, FiniteOrNone]
    intervals: dict[str, Interval] = {}
    gain_interval: Interval | None = None


class Confusion(ReportModel):
    """How often the best checkpoint answered each class (column) where each class was true (row), in test."""

    names: FrozenSequence[str]
    counts: FrozenSequence[FrozenSequence[int]]


class ExampleRow(ReportModel):
    """A row of test that the best checkpoint answers badly: its inputs by column, the truth, and the systems' answers,
    each shortened."""

    row: int
    inputs: dict[str, str]
    true: str
    answers: dict[str, str]


class Breakdown(ReportModel):
    """Scores on parts of test. ``systems``: the model before training, the ordinary recipe, and each ranked checkpoint,
    as far as they have scores; ``winner``: the best checkpoint; ``before``: the one of them that gains are over."""

    systems: FrozenSequence[str] = ()
    winner: str | None = None
    before: str | None = None
    classes: FrozenSequence[ClassRow] = ()
    groups: FrozenSequence[GroupRow] = ()
    confusion: Confusion | None = None
    examples: FrozenSequence[ExampleRow] = ()


class RunRecord(ReportModel):
    """All content of the report of one search.

    ``ranked`` is in rank order. ``front`` lists the trial numbers of the Pareto front, none with one objective.
    ``cost`` holds ``seconds`` (wall clock, over resumes), ``device_seconds``, ``trials`` (a count by state),
    ``resumes``, and where the plan has a price ``per_device_hour`` and ``money``; ``reproduction`` holds ``command``,
    ``versions``, ``seeds``, ``data_fingerprints``, ``model_sha256`` and ``hardware``. Both are shown in full, with any
    further keys. ``started`` and ``updated`` are Unix times in seconds.
    """

    name: str
    metric: str
    goal: Goal
    objectives: FrozenSequence[ObjectiveRow] = ()
    partial: bool = False
    trials: FrozenSequence[TrialRow] = ()
    ranked: FrozenSequence[ScoredRow] = ()
    baselines: FrozenSequence[ScoredRow] = ()
    breakdown: Breakdown = Breakdown()
    front: FrozenSequence[int] = ()
    importances: dict[str, FiniteOrNone] = {}
    cost: JsonObject = {}
    notes: FrozenSequence[str] = ()
    warnings: FrozenSequence[str] = ()
    plan_yaml: str = ""
    reproduction: JsonObject = {}
    started: float | None = None
    updated: float | None = None

    @property
    def per_device_hour(self) -> float | None:
        """Price of a device-hour; None where the plan says none."""
        price = self.cost.get("per_device_hour")
        return float(price) if isinstance(price, int | float) else None

    @model_validator(mode="after")
    def _objectives_match(self) -> "RunRecord":
        width = max(1, len(self.objectives))
        for row in self.trials:
            if row.values is not None and len(row.values) != width:
                raise ValueError(f"trial {row.trial}: expected {width} values, one an objective, got {len(row.values)}")
        return self
