"""Columns of a token file as arrays over the mapped file, from which the values of some rows are gathered at once.

Row by row, Python takes as long to make a batch as a step takes whose frozen layers are kept and not computed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, overload

import numpy as np

from finesearch.tasks.columns import HasColumns

if TYPE_CHECKING:
    import pyarrow as pa

    from finesearch.data.token_split import TokenSplit


class TokenBatch(HasColumns, Sequence):  # type: ignore[type-arg]
    """Some rows of a split, in the order asked: each a dictionary, made when it is looked at; columns as arrays."""

    def __init__(self, split: TokenSplit, indices: np.ndarray) -> None:
        self._split = split
        self._indices = indices

    def __len__(self) -> int:
        return len(self._indices)

    @overload
    def __getitem__(self, index: int) -> dict[str, Any]: ...

    @overload
    def __getitem__(self, index: slice) -> TokenBatch: ...

    def __getitem__(self, index: int | slice) -> dict[str, Any] | TokenBatch:
        if isinstance(index, slice):
            return TokenBatch(self._split, self._indices[index])
        return self._split.row(int(self._indices[index]))

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return (self._split.row(index) for index in self._indices.tolist())

    def flat(self, name: str) -> tuple[np.ndarray, np.ndarray] | None:
        """The lists of numbers of all rows, one behind the other, and the length of each; None for other columns."""
        column = self._split.list_column(name)
        return None if column is None else column.gather(self._indices)

    def numbers(self, name: str) -> np.ndarray | None:
        """A number a row (B,); None for other columns."""
        column = self._split.number_column(name)
        return None if column is None else column[self._indices]


@dataclass(frozen=True, eq=False)
class ListColumn:
    """Lists of numbers anywhere in one array: row i is ``values[starts[i] : starts[i] + lengths[i]]``.

    >>> column = ListColumn(np.array([5, 6, 7, 8]), starts=np.array([0, 3]), lengths=np.array([2, 1]))
    >>> [part.tolist() for part in column.gather(np.array([1, 0]))]
    [[8, 5, 6], [1, 2]]
    """

    values: np.ndarray
    starts: np.ndarray
    lengths: np.ndarray

    def gather(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The values of some rows, one row behind the other, and the length of each, int64 (B,)."""
        lengths = self.lengths[rows]
        ends = lengths.cumsum()
        places = np.arange(ends[-1] if len(ends) else 0) + np.repeat(self.starts[rows] - ends + lengths, lengths)
        return self.values[places], lengths


def list_column(mapped: pa.Buffer, parts: Sequence[pa.ListArray]) -> ListColumn:
    """A column of lists of numbers over the whole mapped file, of which every part (a record batch's) is a piece."""
    starts, lengths = [], []
    values = [part.values.to_numpy(zero_copy_only=True) for part in parts]
    kind = values[0].dtype
    for part, numbers in zip(parts, values, strict=True):
        offsets = part.offsets.to_numpy(zero_copy_only=True).astype(np.int64)
        ahead = numbers.__array_interface__["data"][0] - mapped.address
        # An empty part may point anywhere.
        assert not len(numbers) or (0 <= ahead < mapped.size and ahead % kind.itemsize == 0), ahead
        starts.append(offsets[:-1] + (ahead // kind.itemsize if len(numbers) else 0))
        lengths.append(np.diff(offsets))
    whole = np.frombuffer(mapped, dtype=kind, count=mapped.size // kind.itemsize)
    return ListColumn(whole, np.concatenate(starts), np.concatenate(lengths))
