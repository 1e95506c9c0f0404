"""Prompts for relation extraction: how are these two entities related?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from finesearch.tasks.prompting.prompt_task import ChoicePromptTask, Rows
from finesearch.tasks.prompting.question import Question


class RelationPromptTask(ChoicePromptTask):
    """One question per row. Placeholders: ``{text}``, ``{head}``, ``{tail}``, ``{labels}``, ``{label}``."""

    templates: ClassVar[Mapping[str, str]] = {
        "likelihood": (
            "Choose how the two are related: {labels}.\n\n"
            "Text: {text}\nFirst: {head}\nSecond: {tail}\nRelation: {label}"
        ),
        "cloze": "{text} The relation between {head} and {tail} is {label}.",
        "similarity": "{text} {head} and {tail}\n{label}",
    }

    def questions(self, rows: Rows) -> list[list[Question]]:
        columns = self.task.plan.columns
        values = rows[columns.get("text") or columns["tokens"]]
        spans = zip(rows[columns["head"]], rows[columns["tail"]], strict=True)
        is_split = "tokens" in columns
        number = {name: i for i, name in enumerate(self.facts.label_names)}
        known: Sequence[Any] = (
            self.task.answers(rows, self.facts) if columns["relation"] in rows else [None] * len(values)
        )
        found = []
        for value, (head, tail), name in zip(values, spans, known, strict=True):
            parts = [value[start:end] for start, end in (head, tail)]
            texts = [" ".join(part) if is_split else part for part in (value, *parts)]
            fields = dict(zip(("text", "head", "tail"), texts, strict=True))
            found.append([Question(fields=fields, answer=number.get(name))])
        return found

    def predictions(self, rows: Rows, chosen: Sequence[Sequence[int]]) -> list[Any]:
        return [self.facts.label_names[numbers[0]] for numbers in chosen]
