"""Rows of kept outputs come back as they were."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch

from finesearch.training.prefix_cache.cached_rows import CachedRowWriter, FileRows, LockedFile, MemoryRows


def hidden_rows(count: int, width: int, dtype: torch.dtype) -> dict[int, torch.Tensor]:
    torch.manual_seed(0)
    return {row: torch.randn(1 + row % 5, width).to(dtype) for row in reversed(range(count))}


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_rows_come_back_bit_by_bit_where_the_tokens_are(tmp_path: Path, dtype: torch.dtype, side: str) -> None:
    hidden = hidden_rows(23, 8, dtype)
    writer_of = CachedRowWriter(tmp_path / "hidden.arrow")
    numbers = list(hidden)
    for start in range(0, 20, 7):
        part = numbers[start : min(start + 7, 20)]
        writer_of.write(np.array(part), [hidden[row] for row in part])
    writer_of.close()
    assert writer_of.rows == 20
    held = os.open(tmp_path / "hidden.arrow", os.O_RDONLY)
    file = FileRows([LockedFile(tmp_path / "hidden.arrow", held)], 23, 1 << 20)
    memory = MemoryRows({row: hidden[row] for row in numbers[:20]}, 23)
    wanted = np.array([4, 22, 9, 3])
    lengths = torch.tensor([len(hidden[row]) for row in wanted])[:, None]
    positions = torch.arange(6)
    real = positions < lengths if side == "right" else positions >= 6 - lengths
    for rows in (file, memory):
        assert rows.has(np.array([0, 2, 3, 22])).tolist() == [False, False, True, True]
        placed = rows.place(wanted, real)
        assert placed.dtype == dtype
        assert torch.equal(placed[real], torch.cat([hidden[row] for row in wanted]))
        assert not placed[~real].any()
