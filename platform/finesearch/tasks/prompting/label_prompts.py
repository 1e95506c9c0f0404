"""Prompts for text classification: which label does this text have?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from finesearch.plan.sections.task_kinds import PROBABILITY_METRICS
from finesearch.tasks.prompting.prompt_task import ChoicePromptTask, Rows
from finesearch.tasks.prompting.question import Question
from finesearch.tasks.task import Task


class LabelPromptTask(ChoicePromptTask):
    """One question per text or pair of texts. Placeholders: ``{text}``, ``{text_pair}``, ``{labels}``, ``{label}``."""

    templates: ClassVar[Mapping[str, str]] = {
        "likelihood": "Choose the label of the text: {labels}.\n\nText: {text}\nLabel: {label}",
        "cloze": "{text} In one word: {label}.",
        "similarity": "{text}\n{label}",
    }
    pair_templates: ClassVar[Mapping[str, str]] = {
        "likelihood": (
            "Choose the label of the two texts: {labels}.\n\nFirst: {text}\nSecond: {text_pair}\nLabel: {label}"
        ),
        "cloze": "{text} {text_pair} In one word: {label}.",
        "similarity": "{text}\n{text_pair}\n{label}",
    }

    needs: ClassVar[str] = "a task.metric of chosen labels: prompts give no probabilities"

    @classmethod
    def supports(cls, task: Task) -> bool:
        return task.plan.metric not in PROBABILITY_METRICS

    def template(self, method: str, shows_examples: bool = False) -> str:
        return (self.pair_templates if "text_pair" in self.task.plan.columns else self.templates)[method]

    def questions(self, rows: Rows) -> list[list[Question]]:
        columns = self.task.plan.columns
        roles: list[str] = [role for role in ("text", "text_pair") if role in columns]
        texts = zip(*(rows[columns[role]] for role in roles), strict=True)
        fields = [dict(zip(roles, map(str, row), strict=True)) for row in texts]
        known = self._answers(rows) if columns["label"] in rows else [None] * len(fields)
        return [[Question(fields=each, answer=answer)] for each, answer in zip(fields, known, strict=True)]

    def predictions(self, rows: Rows, chosen: Sequence[Sequence[int]]) -> list[Any]:
        return [numbers[0] for numbers in chosen]

    def _answers(self, rows: Rows) -> list[int | None]:
        return list(self.task.answers(rows, self.facts))


class MultiLabelPromptTask(LabelPromptTask):
    """Texts that may have several labels: only the most likely one is predicted.

    Few-shot examples with several labels are shown with their first one.
    """

    def predictions(self, rows: Rows, chosen: Sequence[Sequence[int]]) -> list[Any]:
        return [[numbers[0]] for numbers in chosen]

    def _answers(self, rows: Rows) -> list[int | None]:
        return [next(iter(numbers), None) for numbers in self.task.answers(rows, self.facts)]
