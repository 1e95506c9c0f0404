"""Tokenized split: token rows memory-mapped from an Arrow file, whose pages the workers of a node share."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import pyarrow as pa


from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, overload

from finesearch.tasks.encoding.array_columns import ColumnarRows

if TYPE_CHECKING:
    import pyarrow as pa


class TokenizedSplit:
    """Rows of one token file, read-only. The columns are those of the task's ``encode``."""

    def __init__(self, path: Path) -> None:
        import pyarrow as pa

        self.path = path
        self._mapped = pa.memory_map(str(path)).read_buffer()
        self._reader = pa.ipc.open_file(self._mapped)
        self._batches = [self._reader.get_batch(i) for i in range(self._reader.num_record_batches)]
        self._starts: list[int] = np.cumsum([0, *(batch.num_rows for batch in self._batches)]).tolist()
        self._columns: dict[str, ListColumn | np.ndarray | None] = {}

    def __len__(self) -> int:
        return self._starts[-1]

    @property
    def column_names(self) -> list[str]:
        return list(self._reader.schema.names)

    @cached_property
    def lengths(self) -> np.ndarray:
        """Tokens of each row before padding, int32 (n,)."""
        if not self._batches:
            return np.zeros(0, dtype=np.int32)
        index = self._reader.schema.get_field_index("input_ids")
        return np.concatenate([np.diff(_offsets(batch.column(index))) for batch in self._batches]).astype(np.int32)

    @cached_property
    def widths(self) -> np.ndarray:
        """Tokens of each row in each input of the model: int (n, 1), or (n, 2) with a decoder."""
        decoder = self.list_column("decoder_input_ids")
        return np.stack([self.lengths, *([] if decoder is None else [decoder.lengths])], axis=1)

    def rows(self, indices: Iterable[int] | None = None) -> TokenBatch:
        """The rows at ``indices`` in that order, or all rows.

        Lists of numbers are read-only arrays (t,) over the mapped file, all else plain Python values.

        Raises:
            IndexError: a row number that is negative or too large.
        """
        if not isinstance(indices, np.ndarray):
            indices = np.array(range(len(self)) if indices is None else list(indices), dtype=np.int64)
        wanted = indices.astype(np.int64, copy=False)
        odd = wanted[(wanted < 0) | (wanted >= len(self))]
        if len(odd):
            raise IndexError(f"row {odd[0]} of {len(self)} in {self.path}")
        return TokenBatch(self, wanted)

    def list_column(self, name: str) -> ListColumn | None:
        """A column of lists of numbers; None for other columns."""
        column = self._column(name)
        return column if isinstance(column, ListColumn) else None

    def number_column(self, name: str) -> np.ndarray | None:
        """A column of numbers (n,); None for other columns."""
        column = self._column(name)
        return column if isinstance(column, np.ndarray) else None

    def column(self, name: str) -> list[Any]:
        """The values of one column in the split's order."""
        index = self._reader.schema.get_field_index(name)
        assert index >= 0, f"no column {name!r} among {self.column_names}"
        return [value for batch in self._batches for value in batch.column(index).to_pylist()]

    def row(self, i: int) -> dict[str, Any]:
        """Row ``i``, 0 <= i < n; see ``rows``."""
        number = bisect_right(self._starts, i) - 1
        inside = i - self._starts[number]
        return {name: read(inside) for name, read in self._readers[number].items()}

    def _column(self, name: str) -> ListColumn | np.ndarray | None:
        if name not in self._columns:
            index = self._reader.schema.get_field_index(name)
            parts = [batch.column(index) for batch in self._batches] if index >= 0 else []
            self._columns[name] = _column_of(self._mapped, parts)
        return self._columns[name]

    @cached_property
    def _readers(self) -> list[dict[str, Any]]:
        """For each record batch, column -> function from a row's index in the batch to its value."""
        names = self.column_names
        return [{name: _reader_of(batch.column(i)) for i, name in enumerate(names)} for batch in self._batches]


def _offsets(column: pa.ListArray) -> np.ndarray:
    offsets: np.ndarray = column.offsets.to_numpy(zero_copy_only=True)
    return offsets


def _column_of(mapped: pa.Buffer, parts: list[Any]) -> ListColumn | np.ndarray | None:
    """A column of numbers or of lists of numbers, without nulls, as arrays; None for other columns."""
    import pyarrow as pa

    if not parts or any(part.null_count for part in parts):
        return None
    kind = parts[0].type
    if pa.types.is_list(kind) and _is_number(kind.value_type) and not any(part.values.null_count for part in parts):
        return list_column(mapped, parts)
    if _is_number(kind):
        return np.concatenate([part.to_numpy(zero_copy_only=True) for part in parts])
    return None


def _reader_of(column: pa.Array) -> Any:
    import pyarrow as pa

    kind = column.type
    if pa.types.is_list(kind) and _is_number(kind.value_type):
        # `.values` is the whole buffer that the offsets index into, regardless of a slice's start.
        offsets, values = _offsets(column), column.values.to_numpy(zero_copy_only=True)
        return lambda i: values[offsets[i] : offsets[i + 1]]
    if _is_number(kind) and not column.null_count:
        numbers = column.to_numpy(zero_copy_only=True)
        return lambda i: numbers[i].item()
    return lambda i: column[i].as_py()


def _is_number(kind: pa.DataType) -> bool:
    import pyarrow as pa

    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind))


class TokenBatch(ColumnarRows, Sequence):  # type: ignore[type-arg]
    """Some rows of a split, in a given order: each a dictionary, created on access; columns are also arrays."""

    def __init__(self, split: TokenizedSplit, indices: np.ndarray) -> None:
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

    def flat_values(self, name: str) -> tuple[np.ndarray, np.ndarray] | None:
        """The lists of numbers of all rows, concatenated, and the length of each; None for other columns."""
        column = self._split.list_column(name)
        return None if column is None else column.gather(self._indices)

    def numbers(self, name: str) -> np.ndarray | None:
        """One number per row (B,); None for other columns."""
        column = self._split.number_column(name)
        return None if column is None else column[self._indices]


@dataclass(frozen=True, eq=False)
class ListColumn:
    """Lists of numbers as slices of one array: row i is ``values[starts[i] : starts[i] + lengths[i]]``.

    >>> column = ListColumn(np.array([5, 6, 7, 8]), starts=np.array([0, 3]), lengths=np.array([2, 1]))
    >>> [part.tolist() for part in column.gather(np.array([1, 0]))]
    [[8, 5, 6], [1, 2]]
    """

    values: np.ndarray
    starts: np.ndarray
    lengths: np.ndarray

    def gather(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The concatenated values of some rows, and the length of each, int64 (B,)."""
        lengths = self.lengths[rows]
        ends = lengths.cumsum()
        places = np.arange(ends[-1] if len(ends) else 0) + np.repeat(self.starts[rows] - ends + lengths, lengths)
        return self.values[places], lengths


def list_column(mapped: pa.Buffer, parts: Sequence[pa.ListArray]) -> ListColumn:
    """A column of lists of numbers over the whole mapped file, whose parts are those of its record batches."""
    starts, lengths = [], []
    values = [part.values.to_numpy(zero_copy_only=True) for part in parts]
    kind = values[0].dtype
    for part, numbers in zip(parts, values, strict=True):
        offsets = part.offsets.to_numpy(zero_copy_only=True).astype(np.int64)
        ahead = numbers.__array_interface__["data"][0] - mapped.address
        # The offset of an empty part is arbitrary.
        assert not len(numbers) or (0 <= ahead < mapped.size and ahead % kind.itemsize == 0), ahead
        starts.append(offsets[:-1] + (ahead // kind.itemsize if len(numbers) else 0))
        lengths.append(np.diff(offsets))
    whole = np.frombuffer(mapped, dtype=kind, count=mapped.size // kind.itemsize)
    return ListColumn(whole, np.concatenate(starts), np.concatenate(lengths))
