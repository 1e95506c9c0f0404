"""Metrics of classification, computed by scikit-learn."""

from __future__ import annotations

from collections.abc import Sequence


def classification_scores(predictions: Sequence[int], references: Sequence[int]) -> dict[str, float]:
    """Accuracy, macro-F1 and Matthews' correlation coefficient of class numbers.

    predictions, references: (n,), n >= 1.

    macro_f1 is the mean over the classes that occur in either sequence; a class that is never predicted counts 0.
    mcc is 0 where one side has a single class (Gorodkin, 2004, for more than two classes).

    >>> classification_scores([0, 1, 1, 0], [0, 1, 0, 0])
    {'accuracy': 0.75, 'macro_f1': 0.7333333333333334, 'mcc': 0.5773502691896258}
    """
    # Imported here: scikit-learn takes a second to load and most commands never score.
    from sklearn.metrics import accuracy_score, f1_score, matthews_corrcoef

    assert len(predictions) == len(references) > 0, (len(predictions), len(references))
    return {
        "accuracy": float(accuracy_score(references, predictions)),
        "macro_f1": float(f1_score(references, predictions, average="macro", zero_division=0)),
        "mcc": float(matthews_corrcoef(references, predictions)),
    }
