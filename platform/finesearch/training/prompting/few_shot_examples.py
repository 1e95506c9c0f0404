"""Which examples of train a prompt shows."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from finesearch.tasks.prompting import Question

POOL = 2000
"""Examples out of which the most similar are taken, at most."""


def choose_examples(known: Sequence[Question], number: int, selection: str, seed: int) -> tuple[Question, ...]:
    """``number`` examples, or the pool for ``similar``; all of ``known`` have answers. The same ones for a seed.

    ``balanced`` takes as many of each answer as there can be, and goes round once more for what is left over.
    """
    rng = np.random.default_rng(seed)
    order = [known[int(place)] for place in rng.permutation(len(known))]
    if selection == "similar":
        return tuple(order[:POOL])
    if selection == "random":
        return tuple(order[:number])
    by_answer: dict[int, list[Question]] = {}
    for question in order:
        assert question.answer is not None
        by_answer.setdefault(question.answer, []).append(question)
    # In the order of their first appearance, which is random: with fewer examples than answers some are left out.
    rounds = max(map(len, by_answer.values()), default=0)
    dealt = [group[turn] for turn in range(rounds) for group in by_answer.values() if turn < len(group)]
    chosen = dealt[:number]
    return tuple(chosen[int(place)] for place in rng.permutation(len(chosen)))
