"""What a trial asks for of kept outputs: one split, or a part of it that is computed at once."""

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
"""A split is computed in parts of so many tokens, or in so many: what one worker of a node does not, another does."""


@dataclass(frozen=True, eq=False, kw_only=True)
class CacheRequest:
    """What a trial asks for of one split.

    key: of model and split, without the depth. portions: row numbers, those that are computed together. cache_depths:
    what it cannot do without. others: what later trials may ask for, the most useful first. forms: of each stack's
    blocks, by the number of blocks that run before it. beat: called while something is computed or waited for.
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
        """The same for parts that have about as many tokens each; how many there are hangs on the split alone."""
        number = min(MOST_PARTS, len(self.portions), int(self.tokens.lengths.sum()) // PART_TOKENS)
        if number <= 1:
            return [self]
        # Portions lie in order of length.
        return [
            replace(self, key=f"{self.key}-{part}of{number}", portions=self.portions[part::number])
            for part in range(number)
        ]

    @cached_property
    def numbers(self) -> np.ndarray:
        """All of its row numbers (n,), in the order of computing."""
        return np.concatenate(self.portions)

    def rows(self, share: float) -> Iterator[np.ndarray]:
        """The portions, or as many rows of them as make ``share`` of all tokens."""
        allowed = share * float(self.tokens.lengths[self.numbers].sum())
        for portion in self.portions:
            upto = np.cumsum(self.tokens.lengths[portion])
            rows = portion if share >= 1.0 else portion[upto <= allowed]
            allowed -= float(upto[-1])
            if len(rows):
                yield rows

    def bytes(self, depth: int) -> int:
        """What a depth of it takes."""
        stack = self.prefix_forward.stack(depth)
        form = self.forms[stack.first]
        return int(self.prefix_forward.widths(self.tokens, depth)[self.numbers].sum()) * form.width * form.itemsize
