"""Metrics of relation extraction, by scikit-learn: the no-relation label counts for accuracy and not for F1."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

Names = Sequence[str]


def micro_f1(predictions: Names, references: Names, none: str) -> float:
    """F1 over all pairs together, as in TACRED's scorer (Zhang et al., 2017): ``none`` is the negative class.

    >>> micro_f1(["born", "none", "none", "born"], ["born", "died", "none", "none"], "none")
    0.5
    """
    return _f1(predictions, references, none, "micro")


def micro_f1_of_sums(sums: np.ndarray) -> np.ndarray:
    """:func:`micro_f1` from sums (r, 3): pairs whose relation was found, pairs with a predicted and with a true one.

    >>> micro_f1_of_sums(np.array([[1.0, 2.0, 2.0], [0.0, 0.0, 0.0]])).tolist()
    [0.5, 0.0]
    """
    scores: np.ndarray = 2 * sums[:, 0] / np.maximum(sums[:, 1] + sums[:, 2], 1)
    return scores


def macro_f1(predictions: Names, references: Names, none: str) -> float:
    """Mean F1 over the relations, except ``none``, that occur in either list."""
    return _f1(predictions, references, none, "macro")


def accuracy(predictions: Names, references: Names, none: str) -> float:
    """Share of pairs whose relation was predicted, ``none`` included."""
    from sklearn.metrics import accuracy_score

    return float(accuracy_score(references, predictions))


METRICS: dict[str, Callable[[Names, Names, str], float]] = {
    "micro_f1": micro_f1,
    "macro_f1": macro_f1,
    "accuracy": accuracy,
}


def _f1(predictions: Names, references: Names, none: str, average: str) -> float:
    from sklearn.metrics import f1_score

    labels = sorted({*predictions, *references} - {none})
    # No relation was predicted, and there was none.
    if not labels:
        return 0.0
    return float(f1_score(references, predictions, labels=labels, average=average, zero_division=0))
