"""The majority baseline's answer: the most frequent one in train."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import TypeVar

Answer = TypeVar("Answer", int, str, tuple[int, ...])


def most_frequent(answers: Iterable[Answer]) -> Answer:
    """The most frequent answer, the smallest among equals.

    >>> most_frequent(["b", "a", "b", "c", "a"])
    'a'
    """
    counts = Counter(answers)
    return min(counts, key=lambda answer: (-counts[answer], answer))
