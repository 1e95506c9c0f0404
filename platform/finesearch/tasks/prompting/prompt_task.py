"""Questions that a model is asked instead of being trained, and what a task must say to have them asked."""

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
    """A task that a model is asked to do. ``candidates`` are the possible answers, () where they are written."""

    candidates: tuple[str, ...] = ()
    methods: ClassVar[tuple[str, ...]] = ("likelihood", "cloze", "similarity")
    """The ways in which it can be asked."""
    shows_examples: ClassVar[bool] = True
    """Whether a prompt may show examples, and be the plan's own."""
    needs: ClassVar[str] = ""
    """What ``supports`` wants of a plan, in words."""

    def __init__(self, task: Task, facts: TaskFacts) -> None:
        self.task, self.facts = task, facts

    @classmethod
    def supports(cls, task: Task) -> bool:
        """Whether a task can be asked as its plan has it."""
        return True

    @abstractmethod
    def template(self, method: str, shows_examples: bool = False) -> str:
        """The task's own template for a method, with and without examples before a question."""

    @abstractmethod
    def questions(self, rows: Rows) -> list[list[Question]]:
        """The questions of each example; with answers where the rows have them. ``rows`` as for ``Task.encode``."""


class ChoicePromptTask(PromptTask):
    """A task whose every question has the same candidate answers.

    Raises:
        DataError: ``task.verbalizers`` speaks of a label that the data has not, or calls two labels the same.
    """

    templates: ClassVar[Mapping[str, str]]
    """The task's own template for each method, with ``{label}`` where the answer stands.

    For similarity the line with ``{label}`` describes a label, and the other lines are the text that is compared with
    it.
    """

    def __init__(self, task: Task, facts: TaskFacts) -> None:
        super().__init__(task, facts)
        self.candidates = self._apply_verbalizers(self.labels)

    def template(self, method: str, shows_examples: bool = False) -> str:
        return self.templates[method]

    @property
    def labels(self) -> tuple[str, ...]:
        """The candidates by the names that the data has for them."""
        return self.facts.label_names

    @abstractmethod
    def predictions(self, rows: Rows, chosen: Sequence[Sequence[int]]) -> list[Any]:
        """What ``Task.score`` takes, from the numbers of the candidates that were chosen for each example."""

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
    """A label's name as one would say it.

    >>> readable_label("date_of-birth"), readable_label("_")
    ('date of birth', '_')
    """
    return " ".join(label.replace("_", " ").replace("-", " ").split()) or label
