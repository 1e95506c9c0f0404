"""The first rows of a data file with all of its columns, before anybody has said which of them matter."""

from __future__ import annotations

import csv
import itertools
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from finesearch.data.readers.read_files import SUFFIXES
from finesearch.errors import DataError

ROWS = 5000
"""Rows that guesses go by; further ones are only counted."""


@dataclass(frozen=True)
class Sample:
    """Rows (at most ``ROWS``) as mappings from column to value, and how many the file has in all."""

    path: Path
    rows: tuple[dict[str, Any], ...]
    total: int

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns of the first row that has any, in its order, then others."""
        return tuple(dict.fromkeys(name for row in self.rows[:100] for name in row))

    def values(self, column: str) -> list[Any]:
        """Values of a column that are there."""
        return [row[column] for row in self.rows if row.get(column) is not None]


def sample_rows(path: Path) -> Sample:
    """Read the beginning of a CSV, TSV, JSON Lines, JSON, Parquet or Arrow file.

    Raises:
        DataError: there is no such file, nothing knows its format, or it holds no rows with named columns.
    """
    if not path.is_file():
        raise DataError(f"{path}: no such file. Expected one of {', '.join(SUFFIXES)}.")
    kind = SUFFIXES.get(path.suffix.lower())
    if kind is None:
        raise DataError(f"{path}: unknown format {path.suffix or '(no suffix)'!r}, expected {', '.join(SUFFIXES)}.")
    try:
        rows, total = _cut(_READERS[kind](path))
    except (OSError, ValueError, RecursionError, csv.Error) as error:
        raise DataError(f"{path}: cannot be read as {kind}: {error}. Write it again, or rename it.") from error
    if not rows or not all(isinstance(row, dict) for row in rows):
        raise DataError(f"{path}: expected rows with named columns, got {'none' if not rows else 'other values'}.")
    if wide := next((number for number, row in enumerate(rows, start=1) if None in row), None):
        raise DataError(f"{path}, row {wide}: more cells than the header has. Put cells with delimiters in quotes.")
    return Sample(path, tuple(rows), total)


def _cut(rows: Iterable[Any]) -> tuple[list[Any], int]:
    rest = iter(rows)
    first = list(itertools.islice(rest, ROWS))
    return first, len(first) + sum(1 for _ in rest)


def _csv(path: Path) -> Iterator[Any]:
    csv.field_size_limit(1 << 27)
    with path.open(encoding="utf-8-sig", newline="") as file:
        yield from csv.DictReader(file, delimiter="\t" if path.suffix.lower() == ".tsv" else ",")


def _json_lines(path: Path) -> Iterator[Any]:
    with path.open(encoding="utf-8-sig") as file:
        for line in file:
            if line.strip():
                yield json.loads(line)


def _json(path: Path) -> Iterator[Any]:
    content = json.loads(path.read_text(encoding="utf-8-sig"))
    if not isinstance(content, list):
        raise ValueError("the file holds no list of rows")
    yield from content


def _parquet(path: Path) -> Iterator[Any]:
    from pyarrow import parquet

    for batch in parquet.ParquetFile(path).iter_batches():
        yield from batch.to_pylist()


def _arrow(path: Path) -> Iterator[Any]:
    import pyarrow as pa

    try:
        table = pa.ipc.open_file(str(path)).read_all()
    except pa.ArrowInvalid:
        table = pa.ipc.open_stream(path.read_bytes()).read_all()
    yield from table.to_pylist()


_READERS: dict[str, Callable[[Path], Iterator[Any]]] = {
    "csv": _csv,
    "jsonl": _json_lines,
    "json": _json,
    "parquet": _parquet,
    "arrow": _arrow,
}
