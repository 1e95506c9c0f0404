"""A metric of the user's own: ``task.metric: package.module:name``, a function of predictions and true answers."""

from __future__ import annotations

import copy
import functools
import importlib
import inspect
import math
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from finesearch.errors import InputError, TrialError
from finesearch.tasks.task import Task, TaskFacts

if TYPE_CHECKING:
    from finesearch.plan import TaskPlan

Function = Callable[[list[Any], list[Any]], Any]
CHECKED_ANSWERS = 100
"""Answers of validation that the function is tried on before a search."""


def find_beside_plan(plan: TaskPlan, folder: Path) -> None:
    """Let the module of the plan's own metric lie in the plan's folder; what is installed goes first."""
    if plan.has_own_metric and str(folder) not in sys.path:
        sys.path.append(str(folder))


def load_own_metric(name: str) -> Function:
    """The function that ``module:name`` stands for.

    Raises:
        InputError: the module cannot be imported, or has no such function.
    """
    module_name, _, function_name = name.partition(":")
    try:
        function = getattr(importlib.import_module(module_name), function_name, None)
    except Exception as error:  # whatever the module does when it is imported
        raise InputError(
            f"task.metric: the module {module_name} cannot be imported ({type(error).__name__}: {error}). Put "
            f"{module_name.split('.')[0]}.py beside the plan file, or install it; every node of a cluster needs it."
        ) from error
    if not callable(function):
        raise InputError(
            f"task.metric: expected a function {function_name} in the module {module_name}, got "
            f"{'nothing of that name' if function is None else type(function).__name__}. Correct the name."
        )
    return function  # type: ignore[no-any-return]


def own_metric_file(plan: TaskPlan) -> Path | None:
    """The file that defines the plan's own metric; None without one, or without a file."""
    if not plan.has_own_metric:
        return None
    try:
        path = inspect.getsourcefile(inspect.unwrap(load_own_metric(plan.metric)))
    except TypeError:  # built in, or an object that is called
        return None
    return None if path is None else Path(path)


def check_own_metric(task: Task, answers: Sequence[Any], facts: TaskFacts) -> None:
    """Try the plan's own metric on true answers as predictions.

    Raises:
        InputError: see ``load_own_metric``; or it raises, or returns no finite number.
    """
    name = task.plan.metric
    some = list(answers[:CHECKED_ANSWERS])
    try:
        task.with_facts(facts).metric(name)(task.perfect_predictions(some), some)
    except TrialError as error:
        raise InputError(f"{error.message} It was tried on {len(some)} true answers of validation.") from error


@functools.cache
def with_own_metric(kind: type[Task]) -> type[Task]:
    """The class of a task whose plan names a metric of the user's own, which is scored beside the task's."""

    class TaskWithOwnMetric(kind):  # type: ignore[misc, valid-type]
        _known: TaskFacts | None = None

        @property
        def registered_class(self) -> type[Task]:
            return kind

        def with_facts(self, facts: TaskFacts) -> Task:
            known: Task = copy.copy(super().with_facts(facts))
            known._known = facts  # type: ignore[attr-defined]
            return known

        def score(self, predictions: Sequence[Any], references: Sequence[Any]) -> dict[str, float]:
            scores: dict[str, float] = super().score(predictions, references)
            return scores | {self.plan.metric: self._own(predictions, references)}

        def metric(self, name: str) -> Callable[[Sequence[Any], Sequence[Any]], float]:
            return self._own if name == self.plan.metric else super().metric(name)

        def example_scores(
            self, name: str, predictions: Sequence[Any], references: Sequence[Any]
        ) -> list[float] | None:
            return None if name == self.plan.metric else super().example_scores(name, predictions, references)

        def statistics(self, name: str, predictions: Sequence[Any], references: Sequence[Any]) -> Any:
            return None if name == self.plan.metric else super().statistics(name, predictions, references)

        def scale(self, name: str, value: float) -> float:
            return max(1.0, abs(value)) if name == self.plan.metric else super().scale(name, value)

        def _own(self, predictions: Sequence[Any], references: Sequence[Any]) -> float:
            assert self._known is not None, "with_facts comes before scoring"
            given, true = self.readable(predictions, references, self._known)
            return call_own_metric(self.plan.metric, given, true)

    return TaskWithOwnMetric


def call_own_metric(name: str, predictions: list[Any], references: list[Any]) -> float:
    """The value of the function ``module:name``.

    Raises:
        InputError: see ``load_own_metric``.
        TrialError: it raises, or returns no finite number.
    """
    function = load_own_metric(name)
    try:
        value = float(function(predictions, references))
    except Exception as error:
        raise TrialError(
            f"task.metric: {name} raised {type(error).__name__}: {error}. Expected a number from a list of predictions "
            f"and a list of true answers."
        ) from error
    if not math.isfinite(value):
        raise TrialError(f"task.metric: {name} returned {value}, expected a finite number for any predictions.")
    return value
