"""Each task's prompts for zero-shot and few-shot trials, in which a model is prompted and not trained.

question            one question to a model
prompt_task         the interface: a task's templates, questions and predictions
label_prompts       text classification: one question per text
relation_prompts    relation extraction: one question per pair of entities
entity_prompts      named entities: one question per word
pair_prompts        regression of pairs of texts: cosine similarity
generation_prompts  translation, summaries: the prompt after which the model generates
dialogue_prompts    dialogue: the conversation itself is the prompt
question_prompts    question answering: words of the context, from ``candidate_spans``
candidate_spans     spans of a context that may answer a question

A new kind of task adds a file with a subclass of ``ChoicePromptTask`` or ``GenerationPromptTask`` and an entry below.
The training layer (``finesearch.training.prompting``) prompts the models and scores their answers.
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
from finesearch.tasks.prompting.dialogue_prompts import DialoguePromptTask
from finesearch.tasks.prompting.entity_prompts import EntityPromptTask
from finesearch.tasks.prompting.generation_prompts import GenerationPromptTask, TextToTextPromptTask
from finesearch.tasks.prompting.label_prompts import LabelPromptTask, MultiLabelPromptTask
from finesearch.tasks.prompting.pair_prompts import PairPromptTask
from finesearch.tasks.prompting.prompt_task import ChoicePromptTask, PromptTask
from finesearch.tasks.prompting.question import Question
from finesearch.tasks.prompting.question_prompts import ExtractivePromptTask
from finesearch.tasks.prompting.relation_prompts import RelationPromptTask
from finesearch.tasks.task import Task, TaskFacts

__all__ = [
    "PromptTask",
    "ChoicePromptTask",
    "PairPromptTask",
    "ExtractivePromptTask",
    "Question",
    "DialoguePromptTask",
    "GenerationPromptTask",
    "prompt_task_class",
    "supports_prompting",
    "make_prompt_task",
]

PROMPT_TASKS: dict[type[Task], type[PromptTask]] = {
    TextClassification: LabelPromptTask,
    MultiLabelClassification: MultiLabelPromptTask,
    TextRegression: PairPromptTask,
    TokenClassification: EntityPromptTask,
    RelationExtraction: RelationPromptTask,
    Translation: TextToTextPromptTask,
    Summarization: TextToTextPromptTask,
    Dialogue: DialoguePromptTask,
    QuestionAnswering: ExtractivePromptTask,
}


def supports_prompting(task: Task) -> bool:
    """Whether the task's answers can be found without training."""
    kind = prompt_task_class(task)
    return kind is not None and kind.supports(task)


def prompt_task_class(task: Task) -> type[PromptTask] | None:
    """The prompt class of a task; None if it has none."""
    return PROMPT_TASKS.get(task.registered_class)


def make_prompt_task(task: Task, facts: TaskFacts) -> PromptTask | None:
    """The task's prompts; None if its answers cannot be found without training.

    Raises:
        DataError: see ``ChoicePromptTask``.
    """
    kind = prompt_task_class(task)
    return kind(task, facts) if kind is not None and kind.supports(task) else None
