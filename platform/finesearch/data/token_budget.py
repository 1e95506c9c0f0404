"""How many rows go through a model at once, by the tokens that they have once they are padded.

The memory of a forward pass goes with its padded tokens, rows times the longest row, and not with its rows.
"""

from __future__ import annotations

import numpy as np

# Of one evaluation pass over all ranks, by device type. Fixed, so that a checkpoint is scored in the very batches of
# its trial. A CPU is fastest while a layer fits into its cache (1024 to 2048 measured), a GPU needs more to be busy.
EVALUATION_TOKENS_PER_PASS = {"cpu": 1024, "cuda": 16384}


def token_budget_batches(lengths: np.ndarray, max_tokens: int) -> list[np.ndarray]:
    """Every row once, longest first, each batch of as many rows as have at most ``max_tokens`` once padded.

    lengths: (n,) tokens a row, each at least 1. A row that is longer than ``max_tokens`` is a batch of its own.

    >>> [batch.tolist() for batch in token_budget_batches(np.array([3, 9, 5, 3]), max_tokens=9)]
    [[1], [2], [0, 3]]
    """
    assert max_tokens > 0, max_tokens
    order = np.argsort(-np.asarray(lengths), kind="stable")
    batches, start = [], 0
    while start < len(order):
        rows = num_rows_within(int(lengths[order[start]]), max_tokens)
        batches.append(order[start : start + rows])
        start += rows
    return batches


def num_rows_within(longest: int, max_tokens: int) -> int:
    """How many rows, padded to ``longest``, have at most ``max_tokens``; at least 1.

    >>> num_rows_within(9, 20), num_rows_within(21, 20)
    (2, 1)
    """
    return max(1, max_tokens // max(1, longest))


def num_passes_within(widths: np.ndarray, max_tokens: int, world_size: int, multiple: int = 1) -> int:
    """Into how many passes each of ``world_size`` processes cuts a batch so that none has above ``max_tokens``.

    widths: (B,) or (B, k) tokens of each row; k > 1 where a model reads k texts a row, each padded by itself. multiple:
    of padded widths. All that it hangs on is the same in every process, and so are the passes.

    >>> num_passes_within(np.array([30, 20, 10]), max_tokens=60, world_size=1)
    2
    """
    longest = widths.reshape(len(widths), -1).max(axis=0)
    padded = int((-(-longest // multiple) * multiple).sum())
    return -(-len(widths) // (world_size * num_rows_within(padded, max_tokens)))
