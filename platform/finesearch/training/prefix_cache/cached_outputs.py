"""Injects the cached outputs of a model's frozen bottom layers, so that these layers are not computed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from finesearch.training.prefix_cache.block_outputs import OutputInjector
from finesearch.training.prefix_cache.cached_rows import Rows
from finesearch.training.prefix_cache.forward import PrefixForward
from finesearch.training.runtime.counters import CACHE_HITS, CACHE_MISSES, COUNTERS

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, eq=False)
class CachedOutputs:
    """Cached outputs of one split, injected into the model batch by batch."""

    injector: OutputInjector
    prefix_forward: PrefixForward
    rows: Mapping[int, Rows]

    @contextmanager
    def injecting(
        self, numbers: np.ndarray, token_rows: Sequence[dict[str, Any]], inputs: dict[str, Any]
    ) -> Iterator[None]:
        """Inside the block the model uses the cached outputs for ``inputs``, the batch made of these rows."""
        self.injector.inject({depth: self._hidden(depth, numbers, token_rows, inputs) for depth in self.rows})
        try:
            yield
        finally:
            self.injector.inject(None)

    def _hidden(
        self, depth: int, numbers: np.ndarray, token_rows: Sequence[dict[str, Any]], inputs: dict[str, Any]
    ) -> Tensor:
        rows, token_mask = self.rows[depth], self.prefix_forward.token_mask(inputs, depth, token_rows)
        there = rows.has(numbers)
        COUNTERS.add(CACHE_HITS, int(there.sum()))
        if there.all():
            return rows.place(numbers, token_mask)
        # Rows that did not fit into the budget are computed on the fly.
        missing: list[int] = np.flatnonzero(~there).tolist()
        COUNTERS.add(CACHE_MISSES, len(missing))
        computed = self.prefix_forward.run([token_rows[index] for index in missing], [depth])[depth]
        hidden = computed[0].new_zeros((*token_mask.shape, computed[0].shape[1]))
        for index, row in zip(missing, computed, strict=True):
            hidden[index, token_mask[index]] = row
        if there.any():
            kept = np.flatnonzero(there)
            hidden[kept] = rows.place(numbers[kept], token_mask[kept])
        return hidden
