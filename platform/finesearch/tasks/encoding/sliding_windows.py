"""Sliding windows over long texts; each token is predicted in the window with the most context around it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from finesearch.errors import ModelError


def special_token_affixes(tokenizer: Any) -> tuple[list[int], list[int]]:
    """The ids that the tokenizer puts before and after a single text.

    Raises:
        ModelError: the tokenizer cannot map tokens to words.
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
    """[start, end) of windows over ``pieces`` tokens that cover all of them.

    word_starts: the first token of each word, ascending. capacity: tokens per window, at least 1. overlap: minimum
    number of tokens that two neighbours share, as far as words allow: a window starts and ends between two words,
    unless a single word fills it.

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
    """For each token in ``positions``, the window that maximises its context on the shorter side.

    positions: ascending. The text's own edges do not limit the context; among equals, the earlier window is taken.

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
