"""From the plan's ``task.kind`` to the class that knows it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from finesearch.errors import PlanError
from finesearch.tasks.base import Task
from finesearch.tasks.summarization import Summarization
from finesearch.tasks.text_classification import TextClassification
from finesearch.tasks.token_classification import TokenClassification
from finesearch.tasks.translation import Translation

if TYPE_CHECKING:
    from finesearch.plan import TaskPlan

KINDS: dict[str, type[Task]] = {
    task.kind: task for task in (TextClassification, TokenClassification, Translation, Summarization)
}


def make_task(plan: TaskPlan) -> Task:
    """The task of a plan.

    Raises:
        PlanError: no task of that kind is known.
    """
    if plan.kind not in KINDS:
        raise PlanError(f"task.kind: unknown task {plan.kind!r}. Known: {', '.join(sorted(KINDS))}.")
    return KINDS[plan.kind](plan)
