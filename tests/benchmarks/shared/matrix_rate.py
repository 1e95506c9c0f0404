"""What a step has to multiply, and how fast this machine multiplies."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

BACKWARD = 2  # every product is followed by one for each of its two factors


def step_flop(config: Any, lengths: Sequence[int], labels: int) -> float:
    """Floating-point operations of one training step of a BERT on rows of these lengths, padding left out.

    Matrix products alone: projections, attention, the two feed-forward products, pooler and classifier; forward and
    backward, with everything trained.
    """
    hidden, inner = config.hidden_size, config.intermediate_size
    tokens, squares = sum(lengths), sum(length * length for length in lengths)
    layer = 2 * tokens * (4 * hidden * hidden + 2 * hidden * inner) + 4 * squares * hidden
    head = 2 * len(lengths) * (hidden * hidden + hidden * labels)
    return float((1 + BACKWARD) * (config.num_hidden_layers * layer + head))


def products(hidden: int, inner: int, tokens: int) -> list[tuple[int, int, int]]:
    """Shapes ``(rows, shared, columns)`` of one layer's products with its weights, forward and backward."""
    forward = [(tokens, hidden, hidden)] * 4 + [(tokens, hidden, inner), (tokens, inner, hidden)]
    shapes = []
    for rows, shared, columns in forward:
        shapes += [(rows, shared, columns), (rows, columns, shared), (shared, rows, columns)]
    return shapes


def matrix_rate(hidden: int, inner: int, tokens: int, dtype: Any, repeat: int) -> float:
    """Operations a second of ``torch.matmul`` at a layer's shapes, on as many threads as torch is set to."""
    import torch

    shapes = products(hidden, inner, tokens)
    factors = [
        (torch.randn(rows, shared, dtype=dtype), torch.randn(shared, columns, dtype=dtype))
        for rows, shared, columns in shapes
    ]

    def layer() -> None:
        for left, right in factors:
            torch.matmul(left, right)

    layer()
    return sum(2 * a * b * c for a, b, c in shapes) / statistics.median(seconds_of(layer) for _ in range(repeat))


def seconds_of(call: Callable[[], None]) -> float:
    """Wall seconds of one call."""
    began = time.perf_counter()
    call()
    return time.perf_counter() - began
