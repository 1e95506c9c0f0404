"""What a task says when a model is to be asked and not trained: zero_shot and few_shot.

base       a question and its candidate answers; what a task that chooses among answers must say
labels     text classification: one question a text
relations  relation extraction: one question a pair of entities
entities   named entities: one question a word
written    tasks whose answer the model writes: the prompt before it

A task of another kind adds a file with a subclass of ``Choosing`` or ``Written`` and an entry below. How questions are
put to a model, and how its answers are scored, is the training floor's business (``finesearch.training.prompting``).
"""

from __future__ import annotations

from finesearch.tasks.base import Facts, Task
from finesearch.tasks.multi_label import MultiLabelClassification
from finesearch.tasks.prompting.base import Choosing, Question
from finesearch.tasks.prompting.entities import ChoosingEntities
from finesearch.tasks.prompting.labels import ChoosingLabels, ChoosingOneOfMany
from finesearch.tasks.prompting.relations import ChoosingRelations
from finesearch.tasks.relation_extraction import RelationExtraction
from finesearch.tasks.text_classification import TextClassification
from finesearch.tasks.token_classification import TokenClassification

__all__ = ["Choosing", "Question", "can_ask", "prompting_of"]

PROMPTING: dict[type[Task], type[Choosing]] = {
    TextClassification: ChoosingLabels,
    MultiLabelClassification: ChoosingOneOfMany,
    TokenClassification: ChoosingEntities,
    RelationExtraction: ChoosingRelations,
}


def can_ask(task: Task) -> bool:
    """Whether the task's answers can be chosen or written without training."""
    return type(task) in PROMPTING


def prompting_of(task: Task, facts: Facts) -> Choosing | None:
    """How the task asks; None where its answers can neither be chosen nor written.

    Raises:
        DataError: see ``Choosing``.
    """
    kind = PROMPTING.get(type(task))
    return None if kind is None else kind(task, facts)
