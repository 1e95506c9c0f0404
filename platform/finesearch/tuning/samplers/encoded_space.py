"""Configurations of a space as rows of numbers, and back: for models of the whole space, branches included."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from finesearch.plan import Choice, Parameter, Range, Scalar, Space
from finesearch.plan.space.random_sampling import QuantileTrial

INACTIVE_PLACE, INACTIVE_VALUE = 0.5, -1.0
"""What stands for an inactive parameter: the middle of a range, no value of a choice."""


class EncodedSpace:
    """The drawn parameters of a space as columns; ``d`` of them.

    A place (d,) holds a quantile in [0, 1) for each parameter, active or not. A point (d,) holds what a model compares:
    the position in a range or its logarithm, from 0 to 1, or the number of a choice's value. Inactive parameters are
    alike in all points, so that two configurations of one branch differ in its own parameters alone (Levesque, Durand,
    Gagne and Sabourin, 2017).
    """

    def __init__(self, space: Space) -> None:
        self._space = space
        self._parameters = space.parameters
        self._column = {parameter.name: column for column, parameter in enumerate(space.parameters)}
        self._fixed = {name: next(iter(inner)) for name, inner in space.selectors.items() if len(inner) == 1}
        self.is_choice = np.array([isinstance(each.domain, Choice) for each in space.parameters], dtype=bool)
        """Columns (d,) of points that hold the number of a value; such numbers are alike or not, and have no order."""

    def __len__(self) -> int:
        return len(self._parameters)

    def configuration(self, place: np.ndarray) -> dict[str, Scalar]:
        """The configuration at a place (d,): its active parameters."""
        return self._space.suggest(QuantileTrial(lambda name: float(place[self._column[name]])))

    def place(self, configuration: Mapping[str, Scalar]) -> np.ndarray:
        """A place (d,) of a configuration; inactive parameters are in the middle."""
        return np.array(
            [
                _quantile(each, configuration[each.name]) if each.name in configuration else INACTIVE_PLACE
                for each in self._parameters
            ]
        )

    def points(self, places: np.ndarray) -> np.ndarray:
        """Points (n, d) of places (n, d)."""
        values = np.empty_like(places)
        for column, parameter in enumerate(self._parameters):
            values[:, column] = _positions(parameter, places[:, column])
        for column, parameter in enumerate(self._parameters):
            inactive = ~self._are_active(parameter, values)
            values[inactive, column] = INACTIVE_VALUE if self.is_choice[column] else INACTIVE_PLACE
        return values

    def active_per_configuration(self, points: np.ndarray) -> float:
        """Mean number of active parameters in points (n, d)."""
        active = [self._are_active(each, points).mean() for each in self._parameters]
        return float(np.sum(active))

    def _are_active(self, parameter: Parameter, points: np.ndarray) -> np.ndarray:
        """Whether a parameter is active (n,), by the selectors' columns, which are always active themselves."""
        active = np.ones(len(points), dtype=bool)
        for selector, branches in parameter.conditions:
            if selector in self._fixed:
                active &= self._fixed[selector] in branches
                continue
            column = self._column[selector]
            domain = self._parameters[column].domain
            assert isinstance(domain, Choice)
            numbers = [number for number, value in enumerate(domain.values) if value in branches]
            active &= np.isin(points[:, column], numbers)
        return active


def _quantile(parameter: Parameter, value: Scalar) -> float:
    """The middle of the quantiles at which a parameter has a value."""
    domain = parameter.domain
    if isinstance(domain, Choice):
        return (_number(domain.values, value) + 0.5) / len(domain.values)
    assert isinstance(domain, Range)
    assert isinstance(value, int | float)
    if domain.high <= domain.low:
        return INACTIVE_PLACE
    if domain.log:
        at = (math.log(value) - math.log(domain.low)) / (math.log(domain.high) - math.log(domain.low))
    elif domain.is_continuous:
        at = (value - domain.low) / (domain.high - domain.low)
    else:
        step = domain.step or 1
        at = (round((value - domain.low) / step) + 0.5) / _count(domain)
    return min(max(at, 0.0), 1.0 - 1e-9)


def _positions(parameter: Parameter, quantiles: np.ndarray) -> np.ndarray:
    domain = parameter.domain
    if isinstance(domain, Choice):
        count = len(domain.values)
        return _steps(quantiles, count)
    assert isinstance(domain, Range)
    if domain.log or domain.is_continuous:
        return quantiles
    count = _count(domain)
    return _steps(quantiles, count) / max(1, count - 1)


def _steps(quantiles: np.ndarray, count: int) -> np.ndarray:
    """Which of ``count`` equal parts each quantile lies in (n,), from 0."""
    steps: np.ndarray = np.minimum(np.floor(quantiles * count), count - 1)
    return steps


def _count(domain: Range) -> int:
    return math.floor((domain.high - domain.low) / (domain.step or 1) + 1e-9) + 1


def _number(values: Sequence[Scalar], value: Scalar) -> int:
    # In Python True equals 1; in a plan they are two values.
    return next(number for number, each in enumerate(values) if type(each) is type(value) and each == value)
