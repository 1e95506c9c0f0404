"""How much multiplying a search cannot do without, from the layers that are frozen.

One unit is the forward pass of one row through one layer. Backward through a layer that trains costs two. Embeddings,
heads, optimizers and everything that is not a matrix product are left out, and so is padding.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

TRAINED = 3  # forward and backward
FORWARD = 1


@dataclass(frozen=True)
class Amount:
    """Rows and epochs of each trial, and the layers of the model."""

    layers: int
    train_rows: int
    validation_rows: int
    epochs: int


def without_cache(frozen: Sequence[int], amount: Amount) -> int:
    """Units of trials that compute every layer in every epoch; each entry of ``frozen`` is a trial.

    >>> without_cache([6], Amount(layers=6, train_rows=10, validation_rows=5, epochs=2))
    180
    """
    forward = amount.layers * (amount.train_rows + amount.validation_rows) * FORWARD
    backward = sum(amount.layers - layers for layers in frozen) * amount.train_rows * (TRAINED - FORWARD)
    return amount.epochs * (forward * len(frozen) + backward)


def with_cache(frozen: Sequence[int], amount: Amount) -> int:
    """Units where the output of frozen layers is computed once for all trials: the deepest pass yields every cut.

    >>> with_cache([6, 6], Amount(layers=6, train_rows=10, validation_rows=5, epochs=2))
    90
    """
    once = max(frozen) * (amount.train_rows + amount.validation_rows) * FORWARD
    trained = sum(amount.layers - layers for layers in frozen)
    return once + amount.epochs * trained * (amount.train_rows * TRAINED + amount.validation_rows * FORWARD)


def bound(frozen: Sequence[int], amount: Amount) -> float:
    """The largest ratio that keeping frozen outputs alone can reach.

    >>> round(bound([0, 2, 4, 5, 6, 6], Amount(layers=6, train_rows=2000, validation_rows=500, epochs=3)), 2)
    1.59
    """
    return without_cache(frozen, amount) / with_cache(frozen, amount)
