"""Configurations drawn at random, without a study."""

import math
import random
from collections.abc import Sequence
from typing import Any

from finesearch.plan.recipe import Recipe
from finesearch.plan.sections import TrainingPlan
from finesearch.plan.space import Space


class RandomDraw:
    """Draws each parameter evenly over its range, or over the logarithm of it; what a space's ``suggest`` asks.

    branch: the adaptation, where it is not to be drawn.

    >>> RandomDraw(seed=0, branch="lora").suggest_categorical("adaptation", ("full", "lora", "head_only"))
    'lora'
    """

    def __init__(self, seed: int, branch: str | None = None) -> None:
        self._random, self._branch = random.Random(seed), branch

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        if name == "adaptation" and self._branch is not None:
            return self._branch
        return self._random.choice(choices)

    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False
    ) -> float:
        if log:
            return min(high, max(low, math.exp(self._random.uniform(math.log(low), math.log(high)))))
        if step is None:
            return self._random.uniform(low, high)
        steps = math.floor((high - low) / step + 1e-9)
        return low + self._random.randint(0, steps) * step

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1, log: bool = False) -> int:
        if log:
            return min(high, max(low, round(math.exp(self._random.uniform(math.log(low), math.log(high))))))
        return low + self._random.randint(0, (high - low) // step) * step


def random_recipes(space: Space, training: TrainingPlan, count: int, branch: str | None = None) -> list[Recipe]:
    """Recipes drawn evenly from a space, always the same ones; ``branch``: of one adaptation only."""
    draw = RandomDraw(0, branch)
    return [space.recipe(space.suggest(draw), training) for _ in range(count)]
