"""Texts that are cut at a limit of tokens: counted for the report before anything runs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from finesearch.tasks.raw_splits import SPLITS, RawSplits

CHUNK_ROWS = 1024
MOST_COUNTED = 20_000
"""Rows of a split that are counted at most; of larger ones, chunks at equal distances."""

Rows = Mapping[str, Sequence[Any]]


@dataclass(frozen=True)
class Truncation:
    """What is cut of a split: ``cut`` of the ``counted`` rows, and a sentence for the report."""

    cut: int
    counted: int
    note: str

    @property
    def is_most(self) -> bool:
        return 2 * self.cut > self.counted


def truncation_remarks(found: Iterable[Truncation]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Notes, and warnings where most rows of a split are cut."""
    notes, warnings = [], []
    for each in found:
        if each.is_most:
            warnings.append(f"{each.note} That is most of them: the model never sees what follows.")
        else:
            notes.append(each.note)
    return tuple(notes), tuple(warnings)


def count_truncations(
    splits: RawSplits, limit: int, lengths: Callable[[Rows], Sequence[int]]
) -> tuple[Truncation, ...]:
    """Rows that are longer than ``task.max_length`` of ``limit`` tokens; lengths: tokens of each of some rows."""
    found = []
    for split in SPLITS:
        cut = counted = 0
        for rows in some_rows(splits, split):
            tokens = lengths(rows)
            cut, counted = cut + sum(each > limit for each in tokens), counted + len(tokens)
        total = len(splits[split])
        drawn = "" if counted == total else f" that were counted (of {total})"
        if cut:
            note = (
                f"{cut} of the {counted} {split} rows{drawn} are longer than task.max_length ({limit} tokens): their "
                "ends are cut off."
            )
            found.append(Truncation(cut, counted, note))
    return tuple(found)


def some_rows(splits: RawSplits, split: str) -> Iterator[dict[str, list[Any]]]:
    """All rows of a split in chunks, or ``MOST_COUNTED`` of them."""
    total = len(splits[split])
    chunks = -(-min(total, MOST_COUNTED) // CHUNK_ROWS)
    distance = max(CHUNK_ROWS, total // chunks)
    for number in range(chunks):
        start = number * distance
        yield splits.plain_rows(split, start, min(start + CHUNK_ROWS, total))
