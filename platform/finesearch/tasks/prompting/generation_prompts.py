"""Tasks whose answer the model writes: the prompt that stands before it."""

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
    """A task with one question a token row, whose answer the model writes where ``answer`` stands in the template.

    A task of another kind that generates text subclasses this; its token rows are those of ``generation_task.py``.
    """

    methods: ClassVar[tuple[str, ...]] = ("generation",)

    @property
    def answer(self) -> str:
        """The placeholder that stands for the answer, at the end of every template."""
        return TASK_KINDS[self.task.kind].asked

    @property
    @abstractmethod
    def answer_tokens(self) -> int:
        """Tokens of the longest answer that training would read."""


class TextToTextPromptTask(GenerationPromptTask):
    """Translation and summaries. Placeholders: the roles of source and target; the latter is the answer.

    The own template is the plan's prefix and separator: what training puts before a target. An encoder-decoder is
    trained without a separator, so that it stands only where examples are shown, between a source and its target.
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
