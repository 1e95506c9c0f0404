"""Task registry: from the plan's ``task.kind`` to the task's class."""

from __future__ import annotations

from typing import TYPE_CHECKING

from finesearch.errors import PlanError
from finesearch.tasks.classification.multi_label import MultiLabelClassification
from finesearch.tasks.classification.regression import TextRegression
from finesearch.tasks.classification.relation_extraction import RelationExtraction
from finesearch.tasks.classification.text_classification import TextClassification
from finesearch.tasks.extraction.question_answering import QuestionAnswering
from finesearch.tasks.extraction.token_classification import TokenClassification
from finesearch.tasks.generation.dialogue import Dialogue
from finesearch.tasks.generation.summarization import Summarization
from finesearch.tasks.generation.translation import Translation
from finesearch.tasks.own_metric import with_own_metric
from finesearch.tasks.task import Task

if TYPE_CHECKING:
    from finesearch.plan import TaskPlan

TASKS_BY_KIND: dict[str, type[Task]] = {
    task.kind: task
    for task in (
        TextClassification,
        TokenClassification,
        RelationExtraction,
        QuestionAnswering,
        Translation,
        Summarization,
        Dialogue,
    )
}


TASKS_BY_FORM: dict[tuple[str, str | None], type[Task]] = {
    (TextClassification.kind, "multi-label"): MultiLabelClassification,
    (TextClassification.kind, "regression"): TextRegression,
}
"""Task classes for a kind's non-default forms."""


def make_task(plan: TaskPlan) -> Task:
    """The task of a plan.

    Raises:
        PlanError: no task of that kind is known.
    """
    if plan.kind not in TASKS_BY_KIND:
        raise PlanError(f"task.kind: unknown task {plan.kind!r}. Known: {', '.join(sorted(TASKS_BY_KIND))}.")
    task = TASKS_BY_FORM.get((plan.kind, plan.form), TASKS_BY_KIND[plan.kind])
    return (with_own_metric(task) if plan.has_own_metric else task)(plan)
