"""What a task says when a model is to be asked and not trained: zero_shot and few_shot.

base       a question and its candidate answers; what a task that chooses among answers must say
labels     text classification: one question a text
relations  relation extraction: one question a pair of entities
entities   named entities: one question a word
pairs      regression of pairs of texts: how alike they are
written    translation, summaries: the prompt behind which the model writes
spoken     dialogue: the conversation itself is the prompt
extracting question answering: words of the context

A task of another kind adds a file with a subclass of ``Choosing`` or ``Written`` and an entry below. How questions are
put to a model, and how its answers are scored, is the training floor's business (``finesearch.training.prompting``).
"""

from __future__ import annotations

from finesearch.tasks.classification.multi_label import MultiLabelClassification
from finesearch.tasks.classification.regression import TextRegression
from finesearch.tasks.classification.relation_extraction import RelationExtraction
from finesearch.tasks.classification.text_classification import TextClassification
from finesearch.tasks.extraction.question_answering import QuestionAnswering
from finesearch.tasks.extraction.token_classification import TokenClassification
from finesearch.tasks.generation.dialogue import Dialogue
from finesearch.tasks.generation.summarization import Summarization
from finesearch.tasks.generation.translation import Translation
from finesearch.tasks.prompting.dialogue_prompts import Spoken
from finesearch.tasks.prompting.entity_prompts import ChoosingEntities
from finesearch.tasks.prompting.generation_prompts import TextWritten, Written
from finesearch.tasks.prompting.label_prompts import ChoosingLabels, ChoosingOneOfMany
from finesearch.tasks.prompting.pair_prompts import ComparingPairs
from finesearch.tasks.prompting.prompt_task import Asking, Choosing, Question
from finesearch.tasks.prompting.question_prompts import Extracting
from finesearch.tasks.prompting.relation_prompts import ChoosingRelations
from finesearch.tasks.task import Facts, Task

__all__ = [
    "Asking",
    "Choosing",
    "ComparingPairs",
    "Extracting",
    "Question",
    "Spoken",
    "Written",
    "asking_kind",
    "can_ask",
    "prompting_of",
]

PROMPTING: dict[type[Task], type[Asking]] = {
    TextClassification: ChoosingLabels,
    MultiLabelClassification: ChoosingOneOfMany,
    TextRegression: ComparingPairs,
    TokenClassification: ChoosingEntities,
    RelationExtraction: ChoosingRelations,
    Translation: TextWritten,
    Summarization: TextWritten,
    Dialogue: Spoken,
    QuestionAnswering: Extracting,
}


def can_ask(task: Task) -> bool:
    """Whether the task's answers can be found without training."""
    kind = asking_kind(task)
    return kind is not None and kind.suits(task)


def asking_kind(task: Task) -> type[Asking] | None:
    """The class that asks for a task; None where none does."""
    return PROMPTING.get(type(task))


def prompting_of(task: Task, facts: Facts) -> Asking | None:
    """How the task asks; None where its answers cannot be found without training.

    Raises:
        DataError: see ``Choosing``.
    """
    kind = asking_kind(task)
    return kind(task, facts) if kind is not None and kind.suits(task) else None
