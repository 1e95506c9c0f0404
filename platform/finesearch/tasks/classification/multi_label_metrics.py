"""Metrics of multi-label classification, computed by scikit-learn from sorted lists of class numbers."""

from __future__ import annotations

from collections.abc import Sequence

Labels = Sequence[Sequence[int]]


def micro_f1(predictions: Labels, references: Labels) -> float:
    """F1 over all decisions together.

    >>> micro_f1([[0], [0, 1]], [[0], [1]])
    0.8
    """
    return _f1(predictions, references, "micro")


def macro_f1(predictions: Labels, references: Labels) -> float:
    """Mean F1 over the classes that occur in either sequence; it is 0 for a class that is never predicted.

    >>> round(macro_f1([[0], [0, 1]], [[0], [1]]), 3)
    0.833
    """
    return _f1(predictions, references, "macro")


def subset_accuracy(predictions: Labels, references: Labels) -> float:
    """Share of examples whose whole set of classes is correct.

    >>> subset_accuracy([[0], [0, 1]], [[0], [1]])
    0.5
    """
    right = sum(list(given) == list(true) for given, true in zip(predictions, references, strict=True))
    return right / len(references)


MULTI_LABEL_METRICS = {"micro_f1": micro_f1, "macro_f1": macro_f1, "subset_accuracy": subset_accuracy}


def _f1(predictions: Labels, references: Labels, average: str) -> float:
    from sklearn.metrics import f1_score
    from sklearn.preprocessing import MultiLabelBinarizer

    classes = sorted({number for row in (*predictions, *references) for number in row})
    if not classes:
        return 0.0
    binarizer = MultiLabelBinarizer(classes=classes)
    true, given = binarizer.fit_transform(references), binarizer.transform(predictions)
    if len(classes) == 1:
        # scikit-learn reads a single column as binary labels.
        return float(f1_score(true[:, 0], given[:, 0], average="binary", zero_division=0))
    return float(f1_score(true, given, average=average, zero_division=0))
