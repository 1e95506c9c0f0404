"""From the name of a floor in a plan to its class, and which floors a plan cannot have."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from finesearch.floors.bag_of_words import (
    BagOfWordsClassifier,
    BagOfWordsLabels,
    BagOfWordsRegression,
    BagOfWordsRelation,
)
from finesearch.floors.best_sentence import BestSentence
from finesearch.floors.entity_floors import EntityDictionary, EntityFields
from finesearch.floors.nearest_texts import CopiedSource, LeadSentences, NearestReply, NearestTranslation
from finesearch.plan import TASK_KINDS
from finesearch.tasks.classification.multi_label import MultiLabelClassification
from finesearch.tasks.classification.regression import TextRegression
from finesearch.tasks.classification.relation_extraction import RelationExtraction

if TYPE_CHECKING:
    from finesearch.floors.floor import Floor
    from finesearch.plan import TaskPlan
    from finesearch.tasks import Task, TaskFacts

FLOORS_BY_NAME: dict[str, type[Floor]] = {
    floor.name: floor
    for floor in (
        BagOfWordsClassifier,
        EntityDictionary,
        EntityFields,
        BestSentence,
        CopiedSource,
        NearestTranslation,
        LeadSentences,
        NearestReply,
    )
}

BAGS_BY_TASK: dict[type[Task], type[Floor]] = {
    MultiLabelClassification: BagOfWordsLabels,
    TextRegression: BagOfWordsRegression,
    RelationExtraction: BagOfWordsRelation,
}
"""The bag of words of tasks whose answers are not one class for a text."""


def make_floor(name: str, task: Task, facts: TaskFacts) -> Floor:
    """The floor of that name for a task of a kind that has it."""
    kind = FLOORS_BY_NAME[name]
    return (BAGS_BY_TASK.get(task.registered_class, kind) if kind is BagOfWordsClassifier else kind)(task, facts)


def unsupported_floors(plan: TaskPlan, names: Sequence[str]) -> dict[str, str]:
    """Floors that cannot be scored by the plan's metric, and why."""
    if plan.metric not in TASK_KINDS[plan.kind].teacher_forced_metrics:
        return {}
    reason = f"a reply that is found has no {plan.metric}; with task.metric rougeL or bleu there is one to compare with"
    return {name: reason for name in names if name == NearestReply.name}
