"""The interface of a task's prompts: templates, questions to a model, and predictions from its answers."""

from __future__ import annotations

import difflib
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from finesearch.errors import DataError
from finesearch.tasks.prompting.question import Question
from finesearch.tasks.task import Task, TaskFacts

Rows = Mapping[str, Sequence[Any]]


class PromptTask(ABC):
    """Prompts of one task. ``candidates`` are the possible answers, () if they are generated."""

    candidates: tuple[str, ...] = ()
    methods: ClassVar[tuple[str, ...]] = ("likelihood", "cloze", "similarity")
    """The supported prompting methods."""
    shows_examples: ClassVar[bool] = True
    """Whether a prompt may have few-shot examples, and a template from the plan."""
    needs: ClassVar[str] = ""
    """What ``supports`` requires of a plan, in words."""

    def __init__(self, task: Task, facts: TaskFacts) -> None:
        self.task, self.facts = task, facts

    @classmethod
    def supports(cls, task: Task) -> bool:
        """Whether a task with this plan can be prompted."""
        return True

    @abstractmethod
    def template(self, method: str, shows_examples: bool = False) -> str:
        """The task's default template for a method, with or without few-shot examples."""

    @abstractmethod
    def questions(self, rows: Rows) -> list[list[Question]]:
        """The questions of each example, with answers if the rows have them. ``rows`` as for ``Task.encode``."""


class ChoicePromptTask(PromptTask):
    """A task in which all questions have the same candidate answers.

    Raises:
        DataError: ``task.verbalizers`` names a label that is not in the data, or words two labels the same.
    """

    templates: ClassVar[Mapping[str, str]]
    """The task's default template for each method, with ``{label}`` at the answer.

    For similarity, the line with ``{label}`` describes a label, and the other lines are the text to compare with it.
    """

    def __init__(self, task: Task, facts: TaskFacts) -> None:
        super().__init__(task, facts)
        self.candidates = self._apply_verbalizers(self.labels)

    def template(self, method: str, shows_examples: bool = False) -> str:
        return self.templates[method]

    @property
    def labels(self) -> tuple[str, ...]:
        """The candidates' names in the data."""
        return self.facts.label_names

    @abstractmethod
    def predictions(self, rows: Rows, chosen: Sequence[Sequence[int]]) -> list[Any]:
        """Predictions for ``Task.score``, from the indices of the candidates chosen for each example."""

    def _apply_verbalizers(self, labels: Sequence[str]) -> tuple[str, ...]:
        given = self.task.plan.verbalizers or {}
        for name in given:
            if name not in labels:
                close = difflib.get_close_matches(name, labels, n=1)
                hint = f"Did you mean {close[0]!r}? " if close else ""
                raise DataError(
                    f"task.verbalizers: the data has no label {name!r}. {hint}Labels here: {', '.join(labels)}."
                )
        words = tuple(given.get(label, readable_label(label)) for label in labels)
        twice = next((word for word in words if words.count(word) > 1), None)
        if twice is not None:
            same = [label for label, word in zip(labels, words, strict=True) if word == twice]
            raise DataError(
                f"task.verbalizers: {' and '.join(map(repr, same))} are both called {twice!r}, expected a word of its "
                f"own for each. Give one under task.verbalizers."
            )
        return words


def readable_label(label: str) -> str:
    """A label's name as readable words.

    >>> readable_label("date_of-birth"), readable_label("_")
    ('date of birth', '_')
    """
    return " ".join(label.replace("_", " ").replace("-", " ").split()) or label
