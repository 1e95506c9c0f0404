"""Prompts for tasks whose answer the model generates: translation, summarization."""

from __future__ import annotations

from abc import abstractmethod
from typing import ClassVar

from finesearch.plan.prompt_templates import escape_braces
from finesearch.plan.sections.task_kinds import TASK_KINDS
from finesearch.tasks.generation.text_to_text import TextToText
from finesearch.tasks.prompting.prompt_task import PromptTask, Rows
from finesearch.tasks.prompting.question import Question
from finesearch.tasks.task import Task, TaskFacts


class GenerationPromptTask(PromptTask):
    """A task with one question per token row, whose answer the model generates at the placeholder ``answer``.

    Other tasks that generate text subclass this; their token rows are those of ``generation_task.py``.
    """

    methods: ClassVar[tuple[str, ...]] = ("generation",)

    @property
    def answer(self) -> str:
        """The answer's placeholder, at the end of every template."""
        return TASK_KINDS[self.task.kind].asked

    @property
    @abstractmethod
    def answer_tokens(self) -> int:
        """Maximum tokens of an answer, as in training."""


class TextToTextPromptTask(GenerationPromptTask):
    """Translation and summaries. Placeholders: the roles of source and target; the latter is the answer.

    The default template is the plan's prefix and separator, as before a target in training. An encoder-decoder is
    trained without a separator, so it is used only with examples, between a source and its target.
    """

    task: TextToText

    def __init__(self, task: Task, facts: TaskFacts) -> None:
        assert isinstance(task, TextToText), task.kind
        super().__init__(task, facts)

    def template(self, method: str, shows_examples: bool = False) -> str:
        plan, shape = self.task.plan, self.facts.shape
        assert shape is not None, "meet comes before asking"
        separator = plan.separator or "" if shows_examples or not shape.is_encoder_decoder else ""
        return (
            f"{escape_braces(plan.prefix or '')}{{{self.task.source_role}}}{escape_braces(separator)}{{{self.answer}}}"
        )

    @property
    def answer_tokens(self) -> int:
        assert self.task.plan.max_target_length is not None
        return self.task.plan.max_target_length

    def questions(self, rows: Rows) -> list[list[Question]]:
        role, sources = self.task.source_role, rows[self.task.source_column]
        targets = rows.get(self.task.target_column, [None] * len(sources))
        return [
            [Question(fields={role: str(source)}, written=None if target is None else str(target))]
            for source, target in zip(sources, targets, strict=True)
        ]
