"""Class weights against class imbalance."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence


def balanced_weights(labels: Sequence[int], classes: int) -> list[float]:
    """``n / (k * n_c)`` for each class c, of the k classes that occur: inverse frequencies whose mean over rows is 1.

    The heuristic of King and Zeng, Logistic Regression in Rare Events Data, 2001, as in scikit-learn's
    ``class_weight="balanced"``. A declared class without rows gets 1, which is never used.

    >>> balanced_weights([0, 0, 0, 1], classes=3)
    [0.6666666666666666, 2.0, 1.0]
    """
    counts = Counter(labels)
    return [len(labels) / (len(counts) * counts[number]) if counts[number] else 1.0 for number in range(classes)]
