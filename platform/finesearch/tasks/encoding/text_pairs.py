"""Layout of text pairs: the special tokens before, between and after two texts, and their token types."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from finesearch.tasks.encoding.sliding_windows import special_token_affixes


@dataclass(frozen=True)
class TextPairLayout:
    """Ids around and between two texts; ``types`` are the token types of the five parts, None without any.

    null: the index of the "no answer" token, from the end if negative.
    """

    before: list[int]
    between: list[int]
    behind: list[int]
    types: tuple[list[int], int, list[int], int, list[int]] | None
    null: int

    @property
    def size(self) -> int:
        return len(self.before) + len(self.between) + len(self.behind)

    def joined(self, first: list[int], second: list[int]) -> tuple[list[int], list[int] | None]:
        """The ids of two texts as one input, and its token types."""
        ids = [*self.before, *first, *self.between, *second, *self.behind]
        if self.types is None:
            return ids, None
        before, one, between, other, behind = self.types
        return ids, [*before, *[one] * len(first), *between, *[other] * len(second), *behind]


def text_pair_layout(tokenizer: Any) -> TextPairLayout:
    """The layout, inferred from one encoded pair.

    Raises:
        ModelError: see ``special_token_affixes``.
    """
    special_token_affixes(tokenizer)
    bare = tokenizer("a", add_special_tokens=False)["input_ids"]
    pair = tokenizer("a", "a")
    ids, size = list(pair["input_ids"]), len(bare)
    places = [at for at in range(len(ids)) if ids[at : at + size] == bare]
    first, second = places[0], places[-1]
    types = pair.get("token_type_ids")
    parts = None
    if types is not None:
        parts = (types[:first], types[first], types[first + size : second], types[second], types[second + size :])
    null = ids.index(tokenizer.cls_token_id) if tokenizer.cls_token_id in ids else 0
    null = null if null < second else null - len(ids)
    return TextPairLayout(ids[:first], ids[first + size : second], ids[second + size :], parts, null)
