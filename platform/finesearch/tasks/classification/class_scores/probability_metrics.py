"""Metrics of class probabilities: area under the ROC curve, average precision, log loss.

As scikit-learn defines them, and fast enough for a thousand resamples; a test compares both.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

Probabilities = Sequence[Sequence[float]]
"""One row an example, one probability a class (n, c)."""

_LEAST = 1e-15
"""A smaller probability of the true class counts as this one, as in scikit-learn before 1.3: no loss is infinite."""


def roc_auc(predictions: Probabilities, references: Sequence[int], positive: int | None) -> float:
    """Area under the ROC curve of ``positive`` against the rest; None: the mean over the classes, each against others.

    It is the share of pairs of a true and another example in which the true one has the higher probability, ties being
    half (Hanley and McNeil, 1982). Classes that no example has, or all have, are left out; 0.5 if none is left.

    >>> roc_auc([[0.9, 0.1], [0.6, 0.4], [0.65, 0.35], [0.2, 0.8]], [0, 0, 1, 1], positive=1)
    0.75
    """
    scores, true = np.asarray(predictions, dtype=float), np.asarray(references)
    areas = [_area(scores[:, number], true == number) for number in _classes(scores, positive)]
    known = [area for area in areas if area is not None]
    return float(np.mean(known)) if known else 0.5


def average_precision(predictions: Probabilities, references: Sequence[int], positive: int | None) -> float:
    """Average precision of ``positive`` against the rest; None: the mean over the classes that occur; 0 if none does.

    The precision at each threshold, weighted by the recall that it adds; without interpolation.

    >>> round(average_precision([[0.9, 0.1], [0.6, 0.4], [0.65, 0.35], [0.2, 0.8]], [0, 0, 1, 1], positive=1), 4)
    0.8333
    """
    scores, true = np.asarray(predictions, dtype=float), np.asarray(references)
    found = [
        _average_precision(scores[:, number], true == number)
        for number in _classes(scores, positive)
        if (true == number).any()
    ]
    return float(np.mean(found)) if found else 0.0


def log_losses(predictions: Probabilities, references: Sequence[int]) -> list[float]:
    """The negative logarithm (base e) of each true class's probability; their mean is the log loss.

    >>> [round(loss, 4) for loss in log_losses([[0.5, 0.5], [0.25, 0.75]], [0, 1])]
    [0.6931, 0.2877]
    """
    scores, true = np.asarray(predictions, dtype=float), np.asarray(references)
    losses: list[float] = (-np.log(np.maximum(scores[np.arange(len(true)), true], _LEAST))).tolist()
    return losses


def probability_score(
    name: str, predictions: Probabilities, references: Sequence[int], positive: int | None = None
) -> float:
    """``roc_auc``, ``average_precision`` or ``log_loss`` by name."""
    if name == "log_loss":
        return float(np.mean(log_losses(predictions, references)))
    return {"roc_auc": roc_auc, "average_precision": average_precision}[name](predictions, references, positive)


def _classes(scores: np.ndarray, positive: int | None) -> range:
    return range(scores.shape[1]) if positive is None else range(positive, positive + 1)


def _area(scores: np.ndarray, is_true: np.ndarray) -> float | None:
    from scipy.stats import rankdata

    true, others = int(is_true.sum()), int((~is_true).sum())
    if not true or not others:
        return None
    return float((rankdata(scores)[is_true].sum() - true * (true + 1) / 2) / (true * others))


def _average_precision(scores: np.ndarray, is_true: np.ndarray) -> float:
    order = np.argsort(-scores, kind="stable")
    ends = np.flatnonzero(np.append(np.diff(scores[order]) != 0, True))
    hits = np.cumsum(is_true[order])[ends]
    return float(np.sum(np.diff(hits, prepend=0) / hits[-1] * hits / (ends + 1)))
