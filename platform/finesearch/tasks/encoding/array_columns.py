"""Columns of token rows as arrays: in one piece if the rows are columnar, else row by row."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np


class ColumnarRows(ABC):
    """Rows whose columns are available as arrays."""

    @abstractmethod
    def flat_values(self, name: str) -> tuple[np.ndarray, np.ndarray] | None:
        """See ``flat_values``; None: the column does not hold lists of numbers."""

    @abstractmethod
    def numbers(self, name: str) -> np.ndarray | None:
        """One number per row (B,); None: the column does not hold numbers."""


def flat_values(rows: Sequence[Mapping[str, Any]], name: str) -> tuple[np.ndarray, np.ndarray]:
    """The lists of numbers of all rows, concatenated (sum of t,), and the length of each, int64 (B,).

    >>> values, lengths = flat_values([{"labels": [7, 8]}, {"labels": [9]}], "labels")
    >>> values.tolist(), lengths.tolist()
    ([7, 8, 9], [2, 1])
    """
    taken = rows.flat_values(name) if isinstance(rows, ColumnarRows) else None
    if taken is not None:
        return taken
    values = [row[name] for row in rows]
    lengths = np.fromiter(map(len, values), dtype=np.int64, count=len(values))
    return np.concatenate([np.asarray(value) for value in values]), lengths


def table(rows: Sequence[Mapping[str, Any]], name: str, dtype: type = np.int64) -> np.ndarray:
    """One number per row (B,), or equally many numbers per row (B, k); a new array.

    >>> table([{"part": [1, 4]}, {"part": [2, 3]}], "part").tolist()
    [[1, 4], [2, 3]]
    """
    if isinstance(rows, ColumnarRows):
        numbers = rows.numbers(name)
        if numbers is not None:
            return numbers.astype(dtype)
        taken = rows.flat_values(name)
        if taken is not None:
            return taken[0].reshape(len(rows), -1).astype(dtype)
    return np.array([row[name] for row in rows], dtype=dtype)
