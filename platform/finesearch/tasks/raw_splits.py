"""Raw rows of train, validation and test, before any task has validated them.

    RawSplits                   train, validation and test as they were read
    └── Origin (one per split)  which files the rows came from, so that an error can name file and row

The data layer creates them and the tasks read them, so they are defined in the lower of the two layers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import datasets
    import pyarrow as pa

SPLITS = ("train", "validation", "test")


@dataclass(frozen=True, eq=False)
class Origin:
    """Where the rows of one split came from.

    parts: the files (or hub splits) in order, each with its number of rows.
    row_indices: if the split is a subset of those parts, each row's index in the concatenated parts, int64 (n,).

    >>> print(Origin((("a.csv", 2), ("b.csv", 5))))
    a.csv + b.csv
    >>> Origin((("a.csv", 2), ("b.csv", 5))).where(3)
    'b.csv, row 2'
    >>> Origin((("a.csv", 9),), row_indices=np.array([7, 4])).where(0)
    'a.csv, row 8'
    """

    parts: tuple[tuple[str, int], ...]
    row_indices: np.ndarray | None = None

    def where(self, row: int) -> str:
        """File and row, counted from 1 without a header, of the split's ``row``, counted from 0."""
        left = row if self.row_indices is None else int(self.row_indices[row])
        for name, rows in self.parts:
            if left < rows:
                return f"{name}, row {left + 1}"
            left -= rows
        raise AssertionError(f"row {row} is beyond the {len(self)} rows of {self}")

    def __len__(self) -> int:
        return sum(rows for _, rows in self.parts) if self.row_indices is None else len(self.row_indices)

    def __str__(self) -> str:
        return " + ".join(name for name, _ in self.parts)


@dataclass(frozen=True, eq=False)
class RawSplits:
    """Train, validation and test rows as read, with the plan's columns and no others.

    notes: for the report: splits taken from train, rows that two splits share, a revision that is not pinned.
    fingerprints: split -> SHA-256 (hex) of its columns, values and order, independent of the file format.
    origins: split -> where its rows came from.
    """

    train: datasets.Dataset
    validation: datasets.Dataset
    test: datasets.Dataset
    notes: tuple[str, ...]
    fingerprints: dict[str, str]
    origins: dict[str, Origin]

    def __getitem__(self, split: str) -> datasets.Dataset:
        return {"train": self.train, "validation": self.validation, "test": self.test}[split]

    def table(self, split: str) -> pa.Table:
        """The rows of a split as an Arrow table, in the split's order."""
        return self[split].with_format("arrow")[:]

    def plain_rows(self, split: str, start: int = 0, stop: int | None = None) -> dict[str, list[Any]]:
        """Rows [start, stop) as column -> values, with class names for class numbers (-1: None)."""
        rows = self[split].with_format("arrow")[start : len(self[split]) if stop is None else stop]
        features = self[split].features
        return {name: _named(rows.column(name).to_pylist(), features[name]) for name in rows.column_names}


def _named(values: list[Any], feature: Any) -> list[Any]:
    """The same values with every ``ClassLabel`` number, at any depth, replaced by its name."""
    if isinstance(feature, dict):
        columns = {key: _named([None if v is None else v[key] for v in values], part) for key, part in feature.items()}
        return [None if v is None else {key: columns[key][i] for key in columns} for i, v in enumerate(values)]
    inner = getattr(feature, "feature", None)
    if inner is not None:
        return [None if value is None else _named(value, inner) for value in values]
    names = getattr(feature, "names", None)
    if names is None:
        return values
    return [names[value] if value is not None and 0 <= value < len(names) else None for value in values]
