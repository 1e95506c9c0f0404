"""Gives a model the cached outputs of its frozen bottom layers in place of their computation."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from finesearch.training.prefix_cache.block_outputs import Feed
from finesearch.training.prefix_cache.cached_rows import Rows
from finesearch.training.prefix_cache.forward import Passes
from finesearch.training.runtime.counters import CACHE_HITS, CACHE_MISSES, METER

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, eq=False)
class Serving:
    """Kept outputs of one split, given to the model batch by batch."""

    feed: Feed
    passes: Passes
    rows: Mapping[int, Rows]

    @contextmanager
    def giving(
        self, numbers: np.ndarray, token_rows: Sequence[dict[str, Any]], inputs: dict[str, Any]
    ) -> Iterator[None]:
        """Inside the block the model takes the outputs of its lowest blocks for ``inputs``, made of these rows."""
        self.feed.give({cut: self._hidden(cut, numbers, token_rows, inputs) for cut in self.rows})
        try:
            yield
        finally:
            self.feed.give(None)

    def _hidden(
        self, cut: int, numbers: np.ndarray, token_rows: Sequence[dict[str, Any]], inputs: dict[str, Any]
    ) -> Tensor:
        rows, real = self.rows[cut], self.passes.real(inputs, cut, token_rows)
        there = rows.has(numbers)
        METER.add(CACHE_HITS, int(there.sum()))
        if there.all():
            return rows.place(numbers, real)
        # What did not fit into the budget is computed as it comes.
        missing: list[int] = np.flatnonzero(~there).tolist()
        METER.add(CACHE_MISSES, len(missing))
        computed = self.passes.run([token_rows[index] for index in missing], [cut])[cut]
        hidden = computed[0].new_zeros((*real.shape, computed[0].shape[1]))
        for index, row in zip(missing, computed, strict=True):
            hidden[index, real[index]] = row
        if there.any():
            kept = np.flatnonzero(there)
            hidden[kept] = rows.place(numbers[kept], real[kept])
        return hidden
