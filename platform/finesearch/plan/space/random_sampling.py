"""Draws configurations without a study: at random, or at given quantiles of each range."""

import math
import random
from collections.abc import Callable, Sequence
from typing import Any

from finesearch.plan.sections.training_section import TrainingPlan
from finesearch.plan.space.recipe import Recipe
from finesearch.plan.space.search_space import Space


class QuantileTrial:
    """A trial for a space's ``suggest`` that takes each parameter at a given quantile of its range or list.

    place: maps a parameter's name to a quantile in [0, 1), along the range or its logarithm.

    >>> middle = QuantileTrial(lambda name: 0.5)
    >>> middle.suggest_float("weight_decay", 0.0, 0.5), middle.suggest_int("layers", 0, 5)
    (0.25, 3)
    """

    def __init__(self, place: Callable[[str], float]) -> None:
        self._place = place

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        return choices[self._nth(name, len(choices))]

    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False
    ) -> float:
        if log:
            return self._on_log_scale(name, low, high)
        if step is None:
            return low + self._place(name) * (high - low)
        return low + self._nth(name, math.floor((high - low) / step + 1e-9) + 1) * step

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1, log: bool = False) -> int:
        if log:
            return round(self._on_log_scale(name, low, high))
        return low + self._nth(name, (high - low) // step + 1) * step

    def _on_log_scale(self, name: str, low: float, high: float) -> float:
        value = math.exp(math.log(low) + self._place(name) * (math.log(high) - math.log(low)))
        return min(high, max(low, value))

    def _nth(self, name: str, count: int) -> int:
        return min(count - 1, int(self._place(name) * count))


class RandomTrial(QuantileTrial):
    """Draws each parameter uniformly over its range, or over the logarithm of it.

    branch: the adaptation, where it is not drawn.

    >>> RandomTrial(seed=0, branch="lora").suggest_categorical("adaptation", ("full", "lora", "head_only"))
    'lora'
    """

    def __init__(self, seed: int, branch: str | None = None) -> None:
        chance = random.Random(seed)
        super().__init__(lambda name: chance.random())
        self._branch = branch

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        if name == "adaptation" and self._branch is not None:
            return self._branch
        return super().suggest_categorical(name, choices)


def sample_recipes(space: Space, training: TrainingPlan, count: int, branch: str | None = None) -> list[Recipe]:
    """Recipes drawn uniformly from a space, with a fixed seed; ``branch``: of one adaptation only."""
    draw = RandomTrial(0, branch)
    return [space.recipe(space.suggest(draw), training) for _ in range(count)]
