"""Long texts as overlapping windows of word pieces, each piece answered for by the window that sees most around it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from finesearch.errors import ModelError


def special_token_affixes(tokenizer: Any) -> tuple[list[int], list[int]]:
    """The ids that the tokeniser puts before and behind a single text.

    Raises:
        ModelError: the tokeniser does not say which word each piece comes from.
    """
    if not getattr(tokenizer, "is_fast", False):
        raise ModelError(
            f"task.model: {type(tokenizer).__name__} does not say where its word pieces come from, which spans need.\n"
            "  Use a model with a fast tokeniser (one with a tokenizer.json)."
        )
    bare = tokenizer("a", add_special_tokens=False)["input_ids"]
    framed = tokenizer("a")["input_ids"]
    before = next(at for at in range(len(framed)) if framed[at : at + len(bare)] == bare)
    return framed[:before], framed[before + len(bare) :]


def split_into_windows(word_starts: Sequence[int], pieces: int, capacity: int, overlap: int) -> list[tuple[int, int]]:
    """[start, end) of windows over ``pieces`` word pieces that cover all of them.

    word_starts: the first piece of each word, ascending. capacity: pieces that a window holds, at least 1. overlap:
    pieces that two neighbours share at least, as far as words allow: a window begins and ends between two words, unless
    a single word fills it.

    >>> split_into_windows([0, 1, 2, 4, 5, 6, 7], pieces=8, capacity=4, overlap=2)
    [(0, 4), (2, 6), (4, 8)]
    >>> split_into_windows([0, 1], pieces=8, capacity=4, overlap=2)
    [(0, 1), (1, 5), (5, 8)]
    """
    edges = sorted({0, *word_starts, pieces})
    windows: list[tuple[int, int]] = []
    start = 0
    while True:
        end = min(pieces, start + capacity)
        if end < pieces:
            end = max((edge for edge in edges if start < edge <= end), default=end)
        windows.append((start, end))
        if end == pieces:
            return windows
        later = [edge for edge in edges if start < edge <= end - overlap]
        start = later[-1] if later else end


def max_context_windows(windows: Sequence[tuple[int, int]], positions: Sequence[int], pieces: int) -> list[int]:
    """For each piece in ``positions``, the window in which it has most context on its poorer side.

    positions: ascending. The edges of the text itself take nothing away; among equals the earlier window answers.

    >>> max_context_windows([(0, 4), (2, 6), (4, 8)], positions=[0, 2, 3, 4, 7], pieces=8)
    [0, 0, 1, 1, 2]
    """
    found = []
    first = 0
    for position in positions:
        while windows[first][1] <= position:
            first += 1
        best, number = (-1, first), first
        while number < len(windows) and windows[number][0] <= position:
            start, end = windows[number]
            before, behind = position - start if start else pieces, end - 1 - position if end < pieces else pieces
            best = max(best, (min(before, behind), number), key=lambda seen: seen[0])
            number += 1
        found.append(best[1])
    return found
