"""Token budget: batch sizes by padded tokens, so that forward passes do not run out of memory.

The memory of a forward pass is proportional to its padded tokens (rows times the longest row), not to its rows.
"""

from __future__ import annotations

import numpy as np

# Tokens of one evaluation pass over all ranks, by device type. Fixed, so that a checkpoint is scored in the batches of
# its trial. A CPU is fastest while a layer fits into its cache (1024 to 2048 measured), a GPU needs more load.
EVALUATION_TOKENS_PER_PASS = {"cpu": 1024, "cuda": 16384}


def token_budget_batches(lengths: np.ndarray, max_tokens: int) -> list[np.ndarray]:
    """Every row once, longest first, in batches of at most ``max_tokens`` padded tokens.

    lengths: (n,) tokens per row, each at least 1. A row longer than ``max_tokens`` is a batch by itself.

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
    """How many rows, padded to ``longest``, fit into ``max_tokens``; at least 1.

    >>> num_rows_within(9, 20), num_rows_within(21, 20)
    (2, 1)
    """
    return max(1, max_tokens // max(1, longest))


def num_passes_within(widths: np.ndarray, max_tokens: int, world_size: int, multiple: int = 1) -> int:
    """Number of passes per process, of ``world_size``, for a batch, so that none exceeds ``max_tokens``.

    widths: (B,) or (B, k) tokens of each row; k > 1 if a model reads k separately padded texts per row. multiple: of
    padded widths. All inputs are the same in every process, and so is the number of passes.

    >>> num_passes_within(np.array([30, 20, 10]), max_tokens=60, world_size=1)
    2
    """
    longest = widths.reshape(len(widths), -1).max(axis=0)
    padded = int((-(-longest // multiple) * multiple).sum())
    return -(-len(widths) // (world_size * num_rows_within(padded, max_tokens)))
