"""Where learning curves that were stopped would have ended, from the trials that went further."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

BELIEF = 0.5
"""Weight of the assumption that nothing is gained any more, in trials."""
UNSEEN = 0.3
"""Deviation of the gain of a whole trial before any was seen, as a share of how far the best is from the median."""
ALIKE = 0.5
"""How far apart values may be, as a share of the same, for one's gain to tell the other's."""


@dataclass(frozen=True)
class Forecast:
    """Best value of a trial at its end, and the standard deviation of that."""

    value: float
    deviation: float


def forecast(curves: Sequence[Sequence[float]], lengths: Sequence[int]) -> list[Forecast]:
    """Best value of each trial at its end: what it has, plus what trials with such values gained afterwards.

    Args:
        curves: value after each evaluation, larger is better; none is empty.
        lengths: evaluations of each whole trial; a trial that has as many is certain.
    """
    best = [np.maximum.accumulate(np.asarray(curve, dtype=np.float64)) for curve in curves]
    reached = np.array([curve[-1] for curve in best])
    spread = max(float(reached.max() - np.median(reached)), 1e-12)
    gains = [_Gains.after(step, best, spread) for step in range(1, max(lengths, default=1))]
    return [_forecast(curve, length, gains, spread) for curve, length in zip(best, lengths, strict=True)]


@dataclass(frozen=True)
class _Gains:
    """What trials gained by the evaluation after one step: from which value (n,), and how much (n,)."""

    values: np.ndarray
    gains: np.ndarray
    alike: float

    @classmethod
    def after(cls, step: int, best: list[np.ndarray], spread: float) -> _Gains:
        further = [curve for curve in best if len(curve) > step]
        values = np.array([curve[step - 1] for curve in further])
        return cls(values, np.array([curve[step] for curve in further]) - values, ALIKE * spread)

    def at(self, value: float, unseen: float) -> tuple[float, float]:
        """Mean and variance of the gain from ``value``; unseen: the variance before any was seen."""
        weights = np.exp(-0.5 * np.square((self.values - value) / self.alike))
        total = float(weights.sum())
        mean = float(weights @ self.gains) / (total + BELIEF)
        variance = (float(weights @ np.square(self.gains - mean)) + unseen) / (total + 1.0)
        return mean, variance


def _forecast(curve: np.ndarray, length: int, gains: list[_Gains], spread: float) -> Forecast:
    value, variance = float(curve[-1]), 0.0
    for step in range(len(curve), length):
        # Curves flatten out: what is unseen falls with each evaluation.
        unseen = (UNSEEN * spread) ** 2 / (length * step)
        mean, added = gains[step - 1].at(value, unseen)
        value, variance = value + mean, variance + added
    return Forecast(value, float(np.sqrt(variance)))
