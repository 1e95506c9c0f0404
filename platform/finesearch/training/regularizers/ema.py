"""EMA: an exponential moving average of the weights."""

from __future__ import annotations

from typing import ClassVar

from finesearch.training.regularizers.weight_average import WeightAverage


class EMA(WeightAverage):
    """``a ← d · a + (1 − d) · w`` after each step, from the first weights on, with ``d = decay_at(step, ema_decay)``.

    Polyak and Juditsky, Acceleration of Stochastic Approximation by Averaging, 1992; in the exponential form of
    Tarvainen and Valpola, Mean Teachers Are Better Role Models, NeurIPS 2017, whose decay rises at the beginning too.
    """

    name: ClassVar[str] = "ema_decay"

    def before_step(self, step: int, learning_rate: float) -> None:
        if not self.has_begun:
            self._begin()

    def after_step(self, step: int, steps: int) -> None:
        self._move(1.0 - decay_at(step, self.strength))


def decay_at(step: int, decay: float) -> float:
    """The decay at optimizer step ``step`` (0-based): low at first, so that the untrained head is forgotten.

    >>> [round(decay_at(step, 0.9), 2) for step in (0, 8, 98, 998)]
    [0.18, 0.53, 0.9, 0.9]
    """
    return min(decay, (2 + step) / (11 + step))
