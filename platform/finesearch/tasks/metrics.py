"""Metrics of classification, computed by scikit-learn."""

from __future__ import annotations

import warnings
from collections.abc import Sequence


def accuracy(predictions: Sequence[int], references: Sequence[int]) -> float:
    """Share of predictions (n,) that equal their reference.

    >>> accuracy([0, 1, 1, 0], [0, 1, 0, 0])
    0.75
    """
    from sklearn.metrics import accuracy_score

    return float(accuracy_score(references, predictions))


def macro_f1(predictions: Sequence[int], references: Sequence[int]) -> float:
    """Mean F1 over the classes that occur in either sequence (n,); a class that is never predicted counts 0."""
    from sklearn.metrics import f1_score

    return float(f1_score(references, predictions, average="macro", zero_division=0))


def micro_f1(predictions: Sequence[int], references: Sequence[int]) -> float:
    """F1 of all decisions together; with one class an example it is the accuracy."""
    from sklearn.metrics import f1_score

    return float(f1_score(references, predictions, average="micro", zero_division=0))


def mcc(predictions: Sequence[int], references: Sequence[int]) -> float:
    """Matthews' correlation coefficient of class numbers (n,), 0 where one side has a single class (Gorodkin, 2004)."""
    from sklearn.metrics import matthews_corrcoef

    with warnings.catch_warnings():
        # Resamples with a single class are ordinary in a bootstrap, and their value is defined above.
        warnings.filterwarnings("ignore", message="A single label was found", category=UserWarning)
        return float(matthews_corrcoef(references, predictions))


# Imported inside the functions: scikit-learn takes a second to load, and most commands never score.
CLASSIFICATION = {"accuracy": accuracy, "macro_f1": macro_f1, "micro_f1": micro_f1, "mcc": mcc}


def classification_scores(predictions: Sequence[int], references: Sequence[int]) -> dict[str, float]:
    """Every metric of class numbers (n,), n >= 1.

    >>> classification_scores([0, 1, 1, 0], [0, 1, 0, 0])
    {'accuracy': 0.75, 'macro_f1': 0.7333333333333334, 'micro_f1': 0.75, 'mcc': 0.5773502691896258}
    """
    assert len(predictions) == len(references) > 0, (len(predictions), len(references))
    return {name: metric(predictions, references) for name, metric in CLASSIFICATION.items()}
