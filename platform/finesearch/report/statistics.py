"""Statistics of a report: bootstrap intervals, the ranking of trials, the Pareto front."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from finesearch.report.run_record import Goal, Interval, TrialRow

ScoreFunction = Callable[[list[Any], list[Any]], float]
RESAMPLES = 1000


def resampled_scores(
    score: ScoreFunction, predictions: Sequence[Any], references: Sequence[Any], seed: int, resamples: int = RESAMPLES
) -> NDArray[np.float64]:
    """``score`` on each of ``resamples`` bootstrap resamples of the n examples, (resamples,) (Efron, 1979).

    The same seed and n give the same resamples, so scores of two systems may be subtracted: the paired bootstrap.

    Raises:
        ValueError: the two lists differ in length.
    """
    _check_lengths(predictions=predictions, references=references)
    return np.array(
        [
            score([predictions[i] for i in chosen], [references[i] for i in chosen])
            for chosen in _resamples(len(references), seed, resamples)
        ],
        dtype=float,
    )


def resampled_means(values: Sequence[float], seed: int, resamples: int = RESAMPLES) -> NDArray[np.float64]:
    """:func:`resampled_scores` for a score that is the mean of one value an example, (resamples,), without calling it.

    >>> values = [1.0, 0.0, 1.0, 1.0]
    >>> means = resampled_means(values, seed=3)
    >>> bool((means == resampled_scores(lambda p, r: sum(p) / len(p), values, values, seed=3)).all())
    True
    """
    result: NDArray[np.float64] = np.asarray(values, dtype=float)[_resamples(len(values), seed, resamples)].mean(axis=1)
    return result


def resampled_sums(
    counts: NDArray[np.int64] | NDArray[np.float64], seed: int, resamples: int = RESAMPLES
) -> NDArray[np.float64]:
    """Sums of the examples' counts (n, k) over the same resamples, (resamples, k): exact for whole numbers.

    >>> resampled_sums(np.array([[1, 10], [2, 20]]), seed=0, resamples=3).astype(int).tolist()
    [[4, 40], [3, 30], [2, 20]]
    """
    examples = len(counts)
    chosen = _resamples(examples, seed, resamples)
    times = (
        np.stack([np.bincount(row, minlength=examples) for row in chosen]) if len(chosen) else np.empty((0, examples))
    )
    result: NDArray[np.float64] = times.astype(float) @ counts.astype(float)
    return result


def percentile_interval(samples: NDArray[np.float64], level: float = 0.95) -> Interval | None:
    """The middle ``level`` of bootstrap samples; None where one of them is undefined (not finite), or there are none.

    >>> tuple(round(end, 6) for end in percentile_interval(np.arange(41.0)))
    (1.0, 39.0)
    """
    if not samples.size or not np.isfinite(samples).all():
        return None
    low, high = np.quantile(samples, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def rank(trials: Sequence[TrialRow], goal: Goal, top: int) -> tuple[TrialRow, ...]:
    """The best ``top`` trials on validation, best first; stopped ones by their best checkpoint.

    Ties go to the trial with fewer trainable parameters, then to the lower number. Trials that left no checkpoint or
    whose value is not finite are never ranked.

    >>> rows = [TrialRow(trial=n, state="complete", values=[v]) for n, v in enumerate([0.5, 0.9, 0.9])]
    >>> [row.trial for row in rank(rows, "max", top=2)]
    [1, 2]
    """
    sign = -1.0 if goal == "max" else 1.0

    def place(row: TrialRow) -> tuple[float, float, int]:
        size = math.inf if row.trainable_parameters is None else row.trainable_parameters
        return (sign * (row.ranking_value or 0.0), size, row.trial)

    rankable = [row for row in trials if row.ranking_value is not None]
    return tuple(sorted(rankable, key=place)[: max(0, top)])


def pareto_front(values: Sequence[Sequence[float | None]], goals: Sequence[Goal]) -> list[int]:
    """Indices of the rows that no other row dominates (at least as good in all objectives and better in one).

    Rows with a missing or non-finite value are never on the front; equal rows are on it together.

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


def _resamples(examples: int, seed: int, resamples: int) -> NDArray[np.int64]:
    """Example indices, (resamples, examples); no rows for fewer than two examples."""
    rows = resamples if examples >= 2 else 0
    return np.random.default_rng(seed).integers(0, max(1, examples), size=(rows, examples))
