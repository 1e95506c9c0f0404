"""Cache request: the outputs that a trial needs of one split, and the parts in which they are computed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from finesearch.training.prefix_cache.forward import PrefixForward
from finesearch.training.prefix_cache.self_test import HiddenStateFormat

if TYPE_CHECKING:
    from finesearch.data import TokenizedSplit

PART_TOKENS, MOST_PARTS = 1 << 15, 16
"""Tokens per part of a split, and the maximum number of parts; the workers of a node share the parts among them."""


@dataclass(frozen=True, eq=False, kw_only=True)
class CacheRequest:
    """A trial's request for the outputs of one split.

    key: of model and split, without the depth. portions: row numbers by batch. cache_depths: depths that the trial
    requires. others: depths that later trials may request, the most useful first. forms: of each stack's blocks, by
    the number of blocks that run before it. beat: the heartbeat, called while computing or waiting.
    """

    key: str
    tokens: TokenizedSplit
    portions: Sequence[np.ndarray]
    cache_depths: tuple[int, ...]
    others: tuple[int, ...]
    forms: Mapping[int, HiddenStateFormat]
    prefix_forward: PrefixForward
    beat: Callable[[], None]

    def parts(self) -> list[CacheRequest]:
        """The request divided into parts with about equal token counts; their number depends on the split alone."""
        number = min(MOST_PARTS, len(self.portions), int(self.tokens.lengths.sum()) // PART_TOKENS)
        if number <= 1:
            return [self]
        # Portions are sorted by length.
        return [
            replace(self, key=f"{self.key}-{part}of{number}", portions=self.portions[part::number])
            for part in range(number)
        ]

    @cached_property
    def numbers(self) -> np.ndarray:
        """All row numbers (n,) of the request, in the order in which they are computed."""
        return np.concatenate(self.portions)

    def rows(self, share: float) -> Iterator[np.ndarray]:
        """The portions, truncated to ``share`` of all tokens."""
        allowed = share * float(self.tokens.lengths[self.numbers].sum())
        for portion in self.portions:
            upto = np.cumsum(self.tokens.lengths[portion])
            rows = portion if share >= 1.0 else portion[upto <= allowed]
            allowed -= float(upto[-1])
            if len(rows):
                yield rows

    def bytes(self, depth: int) -> int:
        """Size of one depth in bytes."""
        stack = self.prefix_forward.stack(depth)
        form = self.forms[stack.first]
        return int(self.prefix_forward.widths(self.tokens, depth)[self.numbers].sum()) * form.width * form.itemsize
