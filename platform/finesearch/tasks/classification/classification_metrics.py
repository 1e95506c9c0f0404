"""Classification metrics (accuracy, F1, MCC) as defined by scikit-learn, computed from a confusion matrix.

scikit-learn takes milliseconds per metric, mostly to validate arguments: longer than the evaluation of a short trial,
and a bootstrap needs a thousand of them. A test compares both.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import sqrt

import numpy as np

ConfusionMatrix = np.ndarray
"""Number of examples of each (reference, prediction), (c, c), over the classes that occur in either."""


def confusion_matrix(predictions: Sequence[int], references: Sequence[int]) -> ConfusionMatrix:
    """
    >>> confusion_matrix([0, 4, 4], [0, 4, 0]).tolist()
    [[1, 1], [0, 1]]
    """
    both = np.concatenate([np.asarray(references), np.asarray(predictions)])
    classes, numbers = np.unique(both, return_inverse=True)
    true, given = np.split(numbers, 2)
    counted = np.bincount(true * len(classes) + given, minlength=len(classes) ** 2)
    return counted.reshape(len(classes), len(classes))


def accuracy(predictions: Sequence[int], references: Sequence[int]) -> float:
    """Share of predictions (n,) that equal their reference.

    >>> accuracy([0, 1, 1, 0], [0, 1, 0, 0])
    0.75
    """
    return _accuracy(confusion_matrix(predictions, references))


def macro_f1(predictions: Sequence[int], references: Sequence[int]) -> float:
    """Mean F1 over the classes that occur in either sequence (n,); it is 0 for a class that is never predicted."""
    return _macro_f1(confusion_matrix(predictions, references))


def micro_f1(predictions: Sequence[int], references: Sequence[int]) -> float:
    """F1 over all decisions together; with one class per example, it equals the accuracy."""
    return _accuracy(confusion_matrix(predictions, references))


def mcc(predictions: Sequence[int], references: Sequence[int]) -> float:
    """Matthews' correlation coefficient of class indices (n,), 0 if either has a single class (Gorodkin, 2004)."""
    return _mcc(confusion_matrix(predictions, references))


CLASSIFICATION_METRICS = {"accuracy": accuracy, "macro_f1": macro_f1, "micro_f1": micro_f1, "mcc": mcc}


def classification_scores(predictions: Sequence[int], references: Sequence[int]) -> dict[str, float]:
    """Every metric of class numbers (n,), n >= 1.

    >>> classification_scores([0, 1, 1, 0], [0, 1, 0, 0])
    {'accuracy': 0.75, 'macro_f1': 0.7333333333333334, 'micro_f1': 0.75, 'mcc': 0.5773502691896258}
    """
    assert len(predictions) == len(references) > 0, (len(predictions), len(references))
    counts = confusion_matrix(predictions, references)
    return {name: score(counts) for name, score in _SCORES.items()}


def _accuracy(counts: ConfusionMatrix) -> float:
    return float(np.trace(counts) / counts.sum())


def _macro_f1(counts: ConfusionMatrix) -> float:
    return float(np.mean(2 * np.diag(counts) / (counts.sum(axis=0) + counts.sum(axis=1))))


def _mcc(counts: ConfusionMatrix) -> float:
    true, given, whole = counts.sum(axis=1), counts.sum(axis=0), int(counts.sum())
    together = int(np.trace(counts)) * whole - int(true @ given)
    spread = (whole**2 - int(true @ true)) * (whole**2 - int(given @ given))
    return together / sqrt(spread) if spread else 0.0


_SCORES: dict[str, Callable[[ConfusionMatrix], float]] = {
    "accuracy": _accuracy,
    "macro_f1": _macro_f1,
    "micro_f1": _accuracy,
    "mcc": _mcc,
}
