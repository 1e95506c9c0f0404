"""Rows of cached outputs: in a memory-mapped Arrow file, or in device memory."""

from __future__ import annotations

import mmap
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Protocol

import numpy as np

from finesearch.training.runtime.counters import CACHE_READ_BYTES, COUNTERS

if TYPE_CHECKING:
    from torch import Tensor

DTYPES: dict[str, Any] = {
    "float32": np.dtype(np.float32),
    "bfloat16": np.dtype(np.int16),
    "float16": np.dtype(np.float16),
}
"""How torch types are stored, by name: Arrow has no bfloat16, so its 16 bits are stored as an integer."""


class Rows(Protocol):
    """Cached outputs of one split at one depth."""

    def has(self, rows: np.ndarray) -> np.ndarray:
        """Which rows are cached, bool (n,)."""
        ...

    def place(self, rows: np.ndarray, token_mask: Tensor) -> Tensor:
        """Outputs of cached rows at the tokens of ``token_mask`` (B, T), and 0 elsewhere: (B, T, d)."""
        ...

    def close(self) -> None: ...


class CachedRowWriter:
    """Writes a file batch by batch, in any order of rows."""

    def __init__(self, path: Path) -> None:
        self._file: BinaryIO = path.open("wb")
        self._writer: Any = None
        self.rows = 0

    def write(self, numbers: np.ndarray, hidden: Sequence[Tensor]) -> None:
        """Rows ``numbers`` (n,) of the split; for each (t, d)."""
        import pyarrow as pa
        import torch

        joined = torch.cat(list(hidden)).cpu()
        name = str(joined.dtype).removeprefix("torch.")
        bits = joined.view(torch.int16) if name == "bfloat16" else joined
        width = joined.shape[1]
        values = pa.array(bits.contiguous().numpy().reshape(-1))
        offsets = pa.array(np.cumsum([0, *(len(row) * width for row in hidden)]), pa.int64())
        column = pa.LargeListArray.from_arrays(offsets, values)
        about = {"dtype": name, "width": str(width)}
        schema = pa.schema([("row", pa.int32()), ("hidden", column.type)], metadata=about)
        if self._writer is None:
            self._writer = pa.ipc.new_file(self._file, schema)
        self._writer.write_batch(pa.record_batch([pa.array(numbers, pa.int32()), column], schema=schema))
        self.rows += len(numbers)

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()
        self._file.close()


@dataclass(frozen=True)
class LockedFile:
    """A file of cached outputs, and the descriptor of the lock that prevents its eviction until it is closed."""

    path: Path
    held: int


class FileRows:
    """Memory-mapped files: the processes of a node share their pages, and this one maps few of them at a time.

    files: of the cached parts of the split. memory_bytes: limit of the pages that this process keeps mapped; further
    pages are released (they stay in the page cache).
    """

    def __init__(self, files: Sequence[LockedFile], total_rows: int, memory_bytes: int) -> None:
        import pyarrow as pa

        self._files, self._budget, self._touched = list(files), memory_bytes, 0
        self._maps: list[mmap.mmap] = []
        self._parts: list[tuple[np.ndarray, np.ndarray]] = []
        self._part = np.full(total_rows, -1, dtype=np.int32)
        self._inside = np.zeros(total_rows, dtype=np.int32)
        for each in files:
            with each.path.open("rb") as file:
                self._maps.append(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
            reader = pa.ipc.open_file(pa.py_buffer(self._maps[-1]))
            said = {key.decode(): value.decode() for key, value in reader.schema.metadata.items()}
            self.dtype, self.width = said["dtype"], int(said["width"])
            for number in range(reader.num_record_batches):
                batch = reader.get_batch(number)
                rows, column = batch.column(0).to_numpy(), batch.column(1)
                self._part[rows], self._inside[rows] = len(self._parts), np.arange(len(rows))
                self._parts.append((column.offsets.to_numpy().copy(), column.values.to_numpy(zero_copy_only=True)))

    def has(self, rows: np.ndarray) -> np.ndarray:
        return np.asarray(self._part[rows] >= 0)

    def place(self, rows: np.ndarray, token_mask: Tensor) -> Tensor:
        import torch

        mask = token_mask.cpu().numpy()
        block: np.ndarray = np.zeros((len(rows), mask.shape[1], self.width), dtype=DTYPES[self.dtype])
        starts, lengths = mask.argmax(axis=1), mask.sum(axis=1)
        before = self._touched
        for index, row in enumerate(rows):
            offsets, values = self._parts[self._part[row]]
            inside, start = self._inside[row], starts[index]
            kept = values[offsets[inside] : offsets[inside + 1]].reshape(-1, self.width)
            block[index, start : start + lengths[index]] = kept
            self._touched += kept.nbytes
        COUNTERS.add(CACHE_READ_BYTES, self._touched - before)
        if self._touched > self._budget:
            for each in self._maps:
                each.madvise(mmap.MADV_DONTNEED)
            self._touched = 0
        hidden = torch.from_numpy(block)
        return (hidden.view(torch.bfloat16) if self.dtype == "bfloat16" else hidden).to(token_mask.device)

    def close(self) -> None:
        """Unlock the entries. A mapping ends with the last array over it."""
        self._parts = []
        while self._files:
            os.close(self._files.pop().held)


class MemoryRows:
    """All rows in one tensor (n, d) on a device; on a GPU, reading them from a disk would cost more than computing."""

    def __init__(self, hidden: Mapping[int, Tensor], total_rows: int) -> None:
        """hidden: row number -> (t, d)."""
        import torch

        self.is_in_use = True
        numbers = list(hidden)
        self._values = torch.cat([hidden[number] for number in numbers])
        self._starts = np.full(total_rows, -1, dtype=np.int64)
        self._starts[numbers] = np.cumsum([0, *(len(hidden[number]) for number in numbers)])[:-1]
        self.width = self._values.shape[1]

    @property
    def bytes(self) -> int:
        return self._values.numel() * self._values.element_size()

    def has(self, rows: np.ndarray) -> np.ndarray:
        return np.asarray(self._starts[rows] >= 0)

    def place(self, rows: np.ndarray, token_mask: Tensor) -> Tensor:
        import torch

        starts = torch.from_numpy(self._starts[rows]).to(token_mask.device)
        # The n-th token of a row, on whichever side it is padded.
        index = starts[:, None] + token_mask.cumsum(dim=1) - 1
        placed = self._values[index.clamp(min=0)]
        return torch.where(token_mask[..., None], placed, placed.new_zeros(()))

    def close(self) -> None:
        """Does nothing: the rows stay for the next trial, unless that one needs the memory."""
        self.is_in_use = False
