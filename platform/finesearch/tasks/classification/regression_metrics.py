"""Regression: reads columns of numbers and their scale, and computes correlations and errors (RMSE, MAE, R²)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from finesearch.errors import DataError
from finesearch.tasks.task import TargetScale

if TYPE_CHECKING:
    import pyarrow as pa

    from finesearch.tasks.raw_splits import Origin


LARGEST = 3.4e38


def parse_number(value: Any) -> float:
    """One cell as a number, NaN if it is none; CSV files store numbers as text.

    >>> parse_number("2.5"), parse_number(3), parse_number("high")
    (2.5, 3.0, nan)
    """
    try:
        return float(value)
    except (TypeError, ValueError):
        return math.nan


def read_numbers(column: pa.ChunkedArray, name: str, origin: Origin) -> list[float]:
    """The number of every row.

    Raises:
        DataError: a row that is null, not a number, NaN or infinite.
    """
    numbers = []
    for row, value in enumerate(column.to_pylist()):
        number = math.nan if isinstance(value, bool) else parse_number(value)
        # Models compute in float32.
        if not abs(number) <= LARGEST:
            raise DataError(
                f"{origin.where(row)}: {'nothing' if value is None else repr(value)} in column {name!r}, expected a"
                " finite number, since `task.form` is regression.\n  Correct the row or remove it; for names set"
                " `task.form: single-label`."
            )
        numbers.append(number)
    return numbers


def target_scale_of(numbers: Sequence[float]) -> TargetScale:
    """Mean and standard deviation of numbers (n,) that differ; summed exactly, so the same on every machine.

    >>> target_scale_of([1.0, 3.0])
    TargetScale(mean=2.0, deviation=1.0)
    """
    mean = math.fsum(numbers) / len(numbers)
    variance = math.fsum((number - mean) ** 2 for number in numbers) / len(numbers)
    return TargetScale(mean=mean, deviation=math.sqrt(variance))


def pearson(predictions: Sequence[float], references: Sequence[float]) -> float:
    """Pearson's correlation of two lists (n,); 0 if either is constant.

    >>> round(pearson([1.0, 2.0, 4.0], [2.0, 4.0, 8.0]), 6), pearson([1.0, 1.0], [1.0, 2.0])
    (1.0, 0.0)
    """
    from scipy.stats import pearsonr

    return 0.0 if _is_constant(predictions, references) else float(pearsonr(predictions, references).statistic)


def spearman(predictions: Sequence[float], references: Sequence[float]) -> float:
    """Spearman's rank correlation of two lists (n,); 0 if either is constant.

    >>> round(spearman([1.0, 2.0, 9.0], [1.0, 4.0, 5.0]), 6)
    1.0
    """
    from scipy.stats import spearmanr

    return 0.0 if _is_constant(predictions, references) else float(spearmanr(predictions, references).statistic)


def rmse(predictions: Sequence[float], references: Sequence[float]) -> float:
    """Root of the mean squared error of two lists (n,), in the unit of the numbers; lower is better.

    >>> rmse([1.0, 2.0], [1.0, 4.0]) == math.sqrt(2.0)
    True
    """
    return math.sqrt(float(np.mean(np.square(_errors(predictions, references)))))


def mae(predictions: Sequence[float], references: Sequence[float]) -> float:
    """Mean absolute error of two lists (n,), in the unit of the numbers; lower is better.

    >>> mae([1.0, 2.0], [1.0, 4.0])
    1.0
    """
    return float(np.mean(np.abs(_errors(predictions, references))))


def r2(predictions: Sequence[float], references: Sequence[float]) -> float:
    """Share of the variance of ``references`` (n,) that is explained, at most 1; 0 for their mean, or without variance.

    >>> r2([1.0, 2.0, 3.0], [1.0, 2.0, 6.0])
    0.3571428571428571
    """
    true = np.asarray(references, dtype=float)
    spread = float(np.sum(np.square(true - true.mean())))
    return 1.0 - float(np.sum(np.square(_errors(predictions, references)))) / spread if spread else 0.0


REGRESSION_METRICS = {"pearson": pearson, "spearman": spearman, "rmse": rmse, "mae": mae, "r2": r2}


def _errors(predictions: Sequence[float], references: Sequence[float]) -> np.ndarray:
    errors: np.ndarray = np.asarray(predictions, dtype=float) - np.asarray(references, dtype=float)
    return errors


def _is_constant(*lists: Sequence[float]) -> bool:
    return any(min(values) == max(values) for values in lists)
