"""Batches of rows of similar length (length bucketing), so that little padding is computed.

Lengths are sorted inside windows of a shuffled order, not over the whole split: a batch stays a random sample of rows
of similar length, and differs in every epoch. A window is at most 50 batches and at most half of the split, so that
small data sets are not simply sorted.
"""

from __future__ import annotations

import numpy as np

_BATCHES_PER_WINDOW = 50
_MIN_WINDOWS = 2


def training_batches(lengths: np.ndarray, batch_size: int, seed: int, epoch: int) -> list[np.ndarray]:
    """The batches of one epoch: every row once, the same for the same arguments.

    lengths: (n,) tokens per row.
    Returns ceil(n / batch_size) arrays of row numbers, int64 (batch_size,); the last may be shorter.

    >>> batches = training_batches(np.array([3, 9, 3, 9, 3]), batch_size=2, seed=0, epoch=0)
    >>> sorted(len(batch) for batch in batches), sorted(np.concatenate(batches).tolist())
    ([1, 2, 2], [0, 1, 2, 3, 4])
    """
    assert batch_size > 0, batch_size
    n = len(lengths)
    random = np.random.default_rng([seed, epoch])
    order = random.permutation(n)
    batches_per_window = max(1, min(_BATCHES_PER_WINDOW, n // (batch_size * _MIN_WINDOWS)))
    window = batch_size * batches_per_window
    for start in range(0, n, window):
        rows = order[start : start + window]
        # Stable: rows of equal length keep their shuffled order.
        order[start : start + window] = rows[np.argsort(-lengths[rows], kind="stable")]
    whole = n // batch_size
    batches = [order[i * batch_size : (i + 1) * batch_size] for i in range(whole)]
    shuffled = [batches[i] for i in random.permutation(whole)]
    # The short batch comes last, so that a step number always means the same number of examples.
    return shuffled + ([order[whole * batch_size :]] if n % batch_size else [])


def evaluation_batches(lengths: np.ndarray, batch_size: int) -> list[np.ndarray]:
    """Every row once, longest first: a batch that does not fit into memory fails at once, not at the end.

    >>> [batch.tolist() for batch in evaluation_batches(np.array([3, 9, 5]), batch_size=2)]
    [[1, 2], [0]]
    """
    assert batch_size > 0, batch_size
    order = np.argsort(-np.asarray(lengths), kind="stable")
    return [order[start : start + batch_size] for start in range(0, len(order), batch_size)]


def shard(batch: np.ndarray, rank: int, world_size: int) -> np.ndarray:
    """One worker's rows of a batch; sizes differ by at most one, and may be 0 for a short batch.

    Every ``world_size``-th row, so that all workers get the same mix of lengths.

    >>> shard(np.array([4, 7, 1, 0, 2]), rank=1, world_size=2).tolist()
    [7, 0]
    """
    assert 0 <= rank < world_size, (rank, world_size)
    return batch[rank::world_size]
