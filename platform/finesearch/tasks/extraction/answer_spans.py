"""Answer spans in tokens: the position of a true answer, and a model's best spans."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

TOP_LOGITS = 20
"""Number of most likely starts and ends considered in each window, as in SQuAD's reference models."""
N_BEST = 5
"""Number of best answers in a prediction."""


def trim_offsets(text: str, offsets: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Offsets without the space that some tokenizers include in a token.

    >>> trim_offsets("a b", [(0, 1), (1, 3)])
    [(0, 1), (2, 3)]
    """
    found = []
    for start, end in offsets:
        while start < end and text[start].isspace():
            start += 1
        found.append((start, end))
    return found


def span_in_window(text: str, start: int, starts: Sequence[int], ends: Sequence[int]) -> tuple[int, int] | None:
    """First and last token of an answer in a window, None if the window does not contain all of it.

    text, start: the answer and its start in characters. starts, ends: those of the window's tokens.

    >>> span_in_window(" Rhine", 3, [0, 4, 10], [3, 9, 12])
    (1, 1)
    """
    # White space around an answer belongs to no token.
    first = start + len(text) - len(text.lstrip())
    last = start + len(text.rstrip())
    inside = [at for at in range(len(starts)) if ends[at] > first and starts[at] < last]
    if inside and starts[inside[0]] <= first and ends[inside[-1]] >= last:
        return inside[0], inside[-1]
    return None


def best_spans(start: np.ndarray, end: np.ndarray, longest: int) -> list[list[Any]]:
    """The best [score, first, last] with first <= last, of at most ``longest`` tokens; start, end: logits (t,).

    >>> best_spans(np.array([0.0, 2.0, 0.0]), np.array([3.0, 0.0, 1.0]), longest=2)[:2]
    [[3.0, 0, 0], [3.0, 1, 2]]
    """
    starts, ends = (np.argsort(-logits, kind="stable")[:TOP_LOGITS] for logits in (start, end))
    scores = start[starts][:, None] + end[ends][None, :]
    lengths = ends[None, :] - starts[:, None]
    scores = np.where((lengths >= 0) & (lengths < longest), scores, -np.inf)
    pairs = [np.unravel_index(at, scores.shape) for at in np.argsort(-scores, axis=None, kind="stable")]
    found = [[float(scores[i, j]), int(starts[i]), int(ends[j])] for i, j in pairs if np.isfinite(scores[i, j])]
    return sorted(found, key=lambda span: (-span[0], span[1], span[2]))[:N_BEST]


def n_best_prediction(null: float, best: Mapping[str, float]) -> dict[str, Any]:
    """A prediction from the score of "no answer" and those of the answers by their texts.

    >>> n_best_prediction(1.0, {"the Rhine": 4.0, "Rhine": 2.0})
    {'text': 'the Rhine', 'null_margin': -3.0, 'n_best': [['the Rhine', 4.0], ['Rhine', 2.0]]}
    """
    ranked = sorted(best.items(), key=lambda item: (-item[1], item[0]))[:N_BEST]
    if not ranked:
        return {"text": "", "null_margin": 0.0, "n_best": []}
    text, score = ranked[0]
    return {"text": text, "null_margin": null - score, "n_best": [[each, value] for each, value in ranked]}
