"""Problems found in a plan, each with place, text and advice; raised together as one error."""

import difflib
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property

from pydantic_core import PydanticCustomError

from finesearch.errors import PlanError

KeyPath = tuple[str | int, ...]
"""Keys and list positions from the top of the plan down to a value; ``()`` is the whole plan."""

PROBLEMS_ERROR_TYPE = "plan_problems"
"""The type of the pydantic errors that carry ``Problem`` objects."""

MOST_TOLD = 200
"""Problems that one message lists."""


@dataclass(frozen=True)
class Problem:
    """One problem; ``text`` says what is wrong, ``advice`` what to do about it."""

    path: KeyPath
    text: str
    advice: str = ""

    def below(self, prefix: KeyPath) -> "Problem":
        """The same problem with ``prefix`` before its path."""
        return Problem((*prefix, *self.path), self.text, self.advice)


@dataclass(frozen=True)
class SourceLocations:
    """Where each value of a plan was written: ``plan.yaml, line 9`` or ``--set training.epochs=x``."""

    source: str
    labels: Mapping[KeyPath, str] = field(default_factory=dict)

    def of(self, path: KeyPath) -> str:
        """The place of ``path``, or of its nearest parent that was written.

        >>> SourceLocations("plan.yaml", {("task",): "plan.yaml, line 3"}).of(("task", "model"))
        'plan.yaml, line 3'
        """
        return self.labels.get(self._written(path), self.source)

    def order(self, problem: Problem) -> int:
        """Position in the file; overrides come after the file."""
        return self._orders.get(self._written(problem.path), 0)

    @cached_property
    def _orders(self) -> dict[KeyPath, int]:
        return {path: index for index, path in enumerate(self.labels)}

    def _written(self, path: KeyPath) -> KeyPath:
        while path and path not in self.labels:
            path = path[:-1]
        return path


@dataclass
class Problems:
    """Collects problems, so that a reader gets all of them at once."""

    found: list[Problem] = field(default_factory=list)
    _known: set[Problem] = field(default_factory=set)

    def add(self, path: KeyPath, text: str, advice: str = "") -> None:
        problem = Problem(path, text, advice)
        if problem not in self._known:
            self._known.add(problem)
            self.found.append(problem)

    def raise_if_any(self, places: SourceLocations) -> None:
        """Raises:
        PlanError: there are problems; the message lists all of them, one a paragraph, in the file's order.
        """
        if self.found:
            rendered = [render(problem, places) for problem in sorted(self.found, key=places.order)]
            more = len(rendered) - MOST_TOLD
            raise PlanError("\n".join(rendered[:MOST_TOLD] + ([f"… and {more:,} more problems."] if more > 0 else [])))


def render(problem: Problem, places: SourceLocations) -> str:
    """The problem as a paragraph.

    >>> problem = Problem(("space", "lr"), "unknown parameter 'lr'", "Known here: dropout.")
    >>> print(render(problem, SourceLocations("plan.yaml")))
    plan.yaml: unknown parameter 'lr'.
      Known here: dropout.
    """
    advice = f"\n  {problem.advice}" if problem.advice else ""
    return f"{places.of(problem.path)}: {problem.text}.{advice}"


def problem_error(*problems: Problem) -> PydanticCustomError:
    """The error for a pydantic validator to raise; paths start at the model of the validated field."""
    text = " ".join(f"{problem.text}. {problem.advice}".strip() for problem in problems)
    return PydanticCustomError(PROBLEMS_ERROR_TYPE, "{text}", {"text": text, "problems": problems})


def dotted(path: KeyPath) -> str:
    """The path as a user writes it after ``--set``.

    >>> dotted(("search", "first", 0))
    'search.first.0'
    """
    return ".".join(str(part) for part in path)


def format_value(value: object) -> str:
    """A given value, short and as YAML would show it.

    >>> format_value(None), format_value(True), format_value("many"), format_value(1e-05), format_value({"min": 1})
    ('null', 'true', "'many'", '1e-05', 'a mapping (min)')
    """
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) and not math.isfinite(value):
        return ".nan" if math.isnan(value) else ".inf" if value > 0 else "-.inf"
    if isinstance(value, Mapping):
        return f"a mapping ({', '.join(str(key) for key in value)})" if value else "an empty mapping"
    if isinstance(value, list | tuple):
        return f"a list of {len(value)}" if value else "an empty list"
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:76]}..."


def did_you_mean(wrong: object, known: Iterable[str], what: str = "Known here") -> str:
    """Advice for an unknown word: the nearest known one, then all of them.

    >>> did_you_mean("learning_rte", ["dropout", "learning_rate"])
    "Did you mean 'learning_rate'? Known here: dropout, learning_rate."
    """
    names = list(known)
    nearest = difflib.get_close_matches(str(wrong).lower(), names, n=1, cutoff=0.6)
    question = f"Did you mean '{nearest[0]}'? " if nearest else ""
    return f"{question}{what}: {', '.join(names)}." if names else question.strip()
