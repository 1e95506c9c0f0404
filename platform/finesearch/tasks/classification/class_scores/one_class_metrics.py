"""F1, precision and recall of one class against all others, from class numbers."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np


def one_class_counts(predictions: Sequence[int], references: Sequence[int], positive: int) -> np.ndarray:
    """For each example (n, 3): whether ``positive`` was predicted rightly, was predicted, is true; as numbers."""
    given, true = np.asarray(predictions) == positive, np.asarray(references) == positive
    return np.stack([given & true, given, true], axis=1).astype(float)


def precision_of_sums(sums: np.ndarray) -> np.ndarray:
    """Share of the predicted ones that are true, (r,), from sums (r, 3); 0 without predicted ones."""
    return _ratio(sums[:, 0], sums[:, 1])


def recall_of_sums(sums: np.ndarray) -> np.ndarray:
    """Share of the true ones that were predicted, (r,), from sums (r, 3); 0 without true ones."""
    return _ratio(sums[:, 0], sums[:, 2])


def f1_of_sums(sums: np.ndarray) -> np.ndarray:
    """Harmonic mean of precision and recall, (r,), from sums (r, 3).

    >>> f1_of_sums(one_class_counts([1, 1, 0, 0], [1, 0, 1, 0], positive=1).sum(axis=0, keepdims=True)).tolist()
    [0.5]
    """
    return _ratio(2 * sums[:, 0], sums[:, 1] + sums[:, 2])


ONE_CLASS_SCORES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "f1": f1_of_sums,
    "precision": precision_of_sums,
    "recall": recall_of_sums,
}


def one_class_score(name: str, predictions: Sequence[int], references: Sequence[int], positive: int) -> float:
    """One of ``ONE_CLASS_SCORES`` over all examples.

    >>> one_class_score("precision", [1, 1, 0, 0], [1, 0, 0, 0], positive=1)
    0.5
    """
    sums = one_class_counts(predictions, references, positive).sum(axis=0, keepdims=True)
    return float(ONE_CLASS_SCORES[name](sums)[0])


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    ratio: np.ndarray = np.divide(part, whole, out=np.zeros_like(part), where=whole > 0)
    return ratio
