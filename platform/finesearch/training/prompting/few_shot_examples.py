"""Few-shot examples: which training examples a prompt shows."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from finesearch.tasks.prompting import Question

POOL = 2000
"""Maximum number of examples from which the most similar are chosen."""


def choose_examples(known: Sequence[Question], number: int, selection: str, seed: int) -> tuple[Question, ...]:
    """``number`` examples, or the pool for ``similar``; all of ``known`` have answers. Deterministic for a seed.

    ``balanced`` takes equally many examples of each answer, as far as possible; the remainder takes one more of some.
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
    # In random order of first appearance: with fewer examples than answers, some answers are left out.
    rounds = max(map(len, by_answer.values()), default=0)
    round_robin = [group[turn] for turn in range(rounds) for group in by_answer.values() if turn < len(group)]
    chosen = round_robin[:number]
    return tuple(chosen[int(place)] for place in rng.permutation(len(chosen)))
