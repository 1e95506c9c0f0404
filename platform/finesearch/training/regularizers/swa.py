"""SWA (stochastic weight averaging): the mean of the weights over the last part of training."""

from __future__ import annotations

import math
from typing import ClassVar

from finesearch.training.regularizers.weight_average import WeightAverage


class SWA(WeightAverage):
    """The mean of the weights after each step, from the fraction ``swa_start`` of all steps on.

    Izmailov et al., Averaging Weights Leads to Wider Optima and Better Generalization, UAI 2018, with a cycle of one
    step, since fine-tuning has few epochs. The schedule stays the recipe's; the paper's is ``schedule: constant``.
    Evaluations before averaging starts score the raw weights.
    """

    name: ClassVar[str] = "swa_start"

    def after_step(self, step: int, steps: int) -> None:
        first = first_averaged(steps, self.strength)
        if step == first:
            self._begin()
        elif step > first:
            self._move(1.0 / (step - first + 1))


def first_averaged(steps: int, start: float) -> int:
    """The optimizer step (0-based) after which averaging starts; the last one at the latest.

    >>> first_averaged(10, 0.75), first_averaged(10, 0.99)
    (8, 9)
    """
    return min(math.ceil(start * steps), steps - 1)
