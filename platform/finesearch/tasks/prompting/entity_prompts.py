"""Prompts for named entities, word by word: what is this?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from finesearch.tasks.encoding.bio_tags import Span, spans_to_tags
from finesearch.tasks.extraction.entity_rows import spans_of_rows, word_spans_of_rows
from finesearch.tasks.prompting.prompt_task import ChoicePromptTask, Rows, readable_label
from finesearch.tasks.prompting.question import Question

OUTSIDE_TAG = "O"


class EntityPromptTask(ChoicePromptTask):
    """One question per word; adjacent words of one label form an entity. Placeholders: ``{text}``, ``{word}``, …

    The first candidate means that a word belongs to no entity; ``task.verbalizers`` may word it under ``O``.
    """

    templates: ClassVar[Mapping[str, str]] = {
        "likelihood": (
            "Choose what a word of the text is part of: {labels}.\n\nText: {text}\nWord: {word}\nAnswer: {label}"
        ),
        "cloze": "{text} Here, {word} is {label}.",
        "similarity": "{text}\n{label}",
    }

    @property
    def labels(self) -> tuple[str, ...]:
        return (OUTSIDE_TAG, *dict.fromkeys(tag[2:] for tag in self.facts.label_names if tag != OUTSIDE_TAG))

    def _apply_verbalizers(self, labels: Sequence[str]) -> tuple[str, ...]:
        words = super()._apply_verbalizers(labels)
        is_named = OUTSIDE_TAG in (self.task.plan.verbalizers or {})
        return words if is_named else (readable_label("nothing"), *words[1:])

    def questions(self, rows: Rows) -> list[list[Question]]:
        columns = self.task.plan.columns
        words = word_spans_of_rows(rows, columns)
        number = {label: i for i, label in enumerate(self.labels)}
        found = []
        known: list[Any] = [None] * len(words)
        if self.task.stratify_column in rows:
            known = [spans_to_tags(w.units, s)[0] for w, s in zip(words, spans_of_rows(rows, columns), strict=True)]
        for each, tags in zip(words, known, strict=True):
            answers = [None] * len(each.words) if tags is None else [number[tag[2:] or OUTSIDE_TAG] for tag in tags]
            found.append(
                [
                    Question(fields={"text": each.text, "word": each.text[start:end]}, answer=answer, span=(start, end))
                    for (start, end), answer in zip(each.words, answers, strict=True)
                ]
            )
        return found

    def predictions(self, rows: Rows, chosen: Sequence[Sequence[int]]) -> list[list[Span]]:
        found = []
        for each, numbers in zip(word_spans_of_rows(rows, self.task.plan.columns), chosen, strict=True):
            spans: list[Span] = []
            for place, (unit, number) in enumerate(zip(each.units, numbers, strict=True)):
                if number == 0:
                    continue
                if place and spans and numbers[place - 1] == number:
                    spans[-1][1] = unit[1]
                else:
                    spans.append([unit[0], unit[1], self.labels[number]])
            found.append(spans)
        return found
