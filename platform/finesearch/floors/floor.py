"""The interface of every floor: a baseline that learns from rows and answers alone, without tokenizer and model."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from finesearch.plan import Scalar

if TYPE_CHECKING:
    from finesearch.tasks import Task, TaskFacts

Setting = TypeVar("Setting", int, float)
Rows = Mapping[str, Sequence[Any]]
"""Column to values, as ``RawSplits.plain_rows`` gives them."""


@dataclass(frozen=True, eq=False)
class FloorData:
    """The rows of the splits, and the true answers of train and validation, as ``Task.answers`` gives them.

    The answers of test are not among them: no floor can see them.
    """

    train: Rows
    validation: Rows
    test: Rows
    train_answers: Sequence[Any]
    validation_answers: Sequence[Any]


@dataclass(frozen=True, eq=False)
class FloorPredictions:
    """One prediction for each row of validation and of test, as ``Task.score`` takes them.

    settings: what was chosen on validation.
    """

    validation: list[Any]
    test: list[Any]
    settings: dict[str, Scalar] = field(default_factory=dict)


class Floor(ABC):
    """A baseline without a neural network; the same data give the same predictions."""

    name: ClassVar[str]
    """The name in ``report.baselines``."""

    def __init__(self, task: Task, facts: TaskFacts) -> None:
        task = task.with_facts(facts)
        self.task, self.facts = task, facts
        plan = task.plan
        self._score = task.metric(plan.metric)
        self._sign = 1.0 if plan.goals[plan.metric] == "max" else -1.0

    @abstractmethod
    def predict(self, data: FloorData) -> FloorPredictions:
        """Learn from train, choose settings on validation, and predict validation and test."""

    def best_setting(
        self, candidates: Iterable[tuple[Setting, list[Any]]], references: Sequence[Any]
    ) -> tuple[Setting, list[Any]]:
        """The candidate, a setting with its predictions, that scores best by the plan's metric; the first of equals."""
        scored = [(self._sign * self._score(given, references), setting, given) for setting, given in candidates]
        # NaN, such as the correlation of equal numbers, is below all else.
        best = max(scored, key=lambda candidate: (candidate[0] == candidate[0], candidate[0]))
        return best[1], best[2]
