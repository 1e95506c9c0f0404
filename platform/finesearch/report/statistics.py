"""How sure a score is, which trial comes first, and which trials no other beats in everything."""

import math
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from finesearch.report.record import Goal, Interval, TrialRow

Score = Callable[[list[Any], list[Any]], float]


def bootstrap_interval(
    score: Score,
    predictions: Sequence[Any],
    references: Sequence[Any],
    seed: int,
    resamples: int = 1000,
    level: float = 0.95,
) -> Interval | None:
    """Percentile bootstrap interval of ``score(predictions, references)`` over examples (Efron, 1979).

    Predictions and references are lists of n items, one an example. Scores that are the same on every resample give an
    interval of no width. None where nothing can be said: fewer than two examples, or a score that is undefined (not
    finite) on some resample.

    >>> accuracy = lambda predicted, true: sum(p == t for p, t in zip(predicted, true)) / len(true)
    >>> bootstrap_interval(accuracy, [1, 1, 1], [1, 1, 1], seed=0)
    (1.0, 1.0)
    >>> low, high = bootstrap_interval(accuracy, [1, 0] * 50, [1, 1] * 50, seed=0)
    >>> 0.38 < low < 0.45 < 0.55 < high < 0.62
    True

    Raises:
        ValueError: the two lists differ in length.
    """
    _check_lengths(predictions=predictions, references=references)

    def statistic(chosen: NDArray[np.int64]) -> float:
        return score([predictions[i] for i in chosen], [references[i] for i in chosen])

    return _interval_over_examples(statistic, len(references), seed, resamples, level)


def gain_interval(
    score: Score,
    predictions: Sequence[Any],
    baseline: Sequence[Any],
    references: Sequence[Any],
    goal: Goal,
    seed: int,
    resamples: int = 1000,
    level: float = 0.95,
) -> Interval | None:
    """Paired bootstrap interval of what ``predictions`` gain over ``baseline``: positive is better, whatever the goal.

    Both are scored on the same resampled examples, so the interval is narrower than the two scores' own.

    >>> accuracy = lambda predicted, true: sum(p == t for p, t in zip(predicted, true)) / len(true)
    >>> low, high = gain_interval(accuracy, [1] * 100, [1, 0] * 50, [1] * 100, goal="max", seed=0)
    >>> 0.38 < low < 0.45 < 0.55 < high < 0.62
    True

    Raises:
        ValueError: the lists differ in length.
    """
    _check_lengths(predictions=predictions, references=references, baseline=baseline)
    sign = 1.0 if goal == "max" else -1.0

    def statistic(chosen: NDArray[np.int64]) -> float:
        true = [references[i] for i in chosen]
        return sign * (score([predictions[i] for i in chosen], true) - score([baseline[i] for i in chosen], true))

    return _interval_over_examples(statistic, len(references), seed, resamples, level)


def rank(trials: Sequence[TrialRow], goal: Goal, top: int) -> tuple[TrialRow, ...]:
    """The best ``top`` complete trials on validation, best first.

    Ties go to the trial with fewer trainable parameters, then to the lower number. Trials that are not complete or
    whose value is not finite are never among them.

    >>> rows = [TrialRow(trial=n, state="complete", values=[v]) for n, v in enumerate([0.5, 0.9, 0.9])]
    >>> [row.trial for row in rank(rows, "max", top=2)]
    [1, 2]
    """
    sign = -1.0 if goal == "max" else 1.0

    def place(row: TrialRow) -> tuple[float, float, int]:
        size = math.inf if row.trainable_parameters is None else row.trainable_parameters
        return (sign * (row.value or 0.0), size, row.trial)

    finished = [row for row in trials if row.state == "complete" and row.values and row.value is not None]
    return tuple(sorted(finished, key=place)[: max(0, top)])


def pareto_front(values: Sequence[Sequence[float | None]], goals: Sequence[Goal]) -> list[int]:
    """Positions of the rows that no other row beats: none is at least as good in everything and better in something.

    Rows with a value that is missing or not finite are never on the front; equal rows are on it together.

    >>> pareto_front([[0.9, 10.0], [0.8, 5.0], [0.8, 20.0], [None, 1.0]], ["max", "min"])
    [0, 1]

    Raises:
        ValueError: a row does not hold one value a goal.
    """
    for position, row in enumerate(values):
        if len(row) != len(goals):
            raise ValueError(f"row {position}: expected {len(goals)} values, one a goal, got {len(row)}")
    signs = np.array([-1.0 if goal == "max" else 1.0 for goal in goals])
    table = np.array([[math.nan if value is None else value for value in row] for row in values], dtype=float)
    usable = [i for i in range(len(values)) if np.isfinite(table[i]).all()]
    losses = table[usable] * signs if usable else np.empty((0, len(goals)))
    return [
        i
        for i, loss in zip(usable, losses, strict=True)
        if not ((losses <= loss).all(axis=1) & (losses < loss).any(axis=1)).any()
    ]


def _check_lengths(**lists: Sequence[Any]) -> None:
    lengths = {name: len(items) for name, items in lists.items()}
    if len(set(lengths.values())) > 1:
        raise ValueError(f"expected lists of one length, one item an example, got {lengths}")


def _interval_over_examples(
    statistic: Callable[[NDArray[np.int64]], float], examples: int, seed: int, resamples: int, level: float
) -> Interval | None:
    if examples < 2:
        return None
    # scipy.stats takes most of a second to import, which a report without intervals need not pay.
    from scipy import stats

    with warnings.catch_warnings():
        # An undefined score is answered below; scipy's warning speaks of another method.
        warnings.simplefilter("ignore", stats.DegenerateDataWarning)
        # Percentile rather than BCa: BCa needs one more score an example and is undefined for constant scores.
        result = stats.bootstrap(
            (np.arange(examples),),
            statistic,
            n_resamples=resamples,
            confidence_level=level,
            vectorized=False,
            method="percentile",
            rng=np.random.default_rng(seed),
        )
    low, high = float(result.confidence_interval.low), float(result.confidence_interval.high)
    return (low, high) if math.isfinite(low) and math.isfinite(high) else None
