"""The scale of a hyperparameter axis: linear, logarithmic or categorical."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from finesearch.report.number_format import parameter
from finesearch.report.run_record import Scalar

MAX_CATEGORIES = 12
# Values that span a larger ratio, many of them far below the largest, get a logarithmic axis; of uniformly drawn values
# only a tenth would be that low.
LOG_SPAN = 50.0
LOG_SHARE = 0.25


@dataclass(frozen=True)
class AxisScale:
    """Marks of one axis from 0 (bottom) to 1 (top), each with its label; ``kind`` is the kind of scale."""

    kind: str
    low: float
    high: float
    categories: tuple[str, ...]
    marks: tuple[tuple[float, str], ...]

    def place(self, value: Scalar) -> float:
        """Height of a value, from 0 to 1."""
        if self.kind == "category":
            return _share(self.categories.index(parameter(value)), 0, len(self.categories) - 1)
        assert isinstance(value, int | float)
        return _share(_transformed(value, self.kind), self.low, self.high)


def scale(values: Sequence[Scalar]) -> AxisScale:
    """The axis for these values: numbers linear or by magnitude, anything else by category.

    >>> scale([1e-5, 1e-2]).place(1e-3)
    0.666...
    >>> scale(["full", "lora"]).marks
    ((0.0, 'full'), (1.0, 'lora'))
    """
    numbers = [value for value in values if isinstance(value, int | float) and not isinstance(value, bool)]
    if len(numbers) < len(values):
        return _of_categories(values)
    low, high = min(numbers), max(numbers)
    far_below = sum(number < high / 10 for number in numbers)
    if low > 0 and high / low > LOG_SPAN and far_below > LOG_SHARE * len(numbers):
        bottom, top = math.log10(low), math.log10(high)
        decades = [10.0**power for power in range(math.ceil(bottom), math.floor(top) + 1)]
        step = max(1, math.ceil(len(decades) / 6))
        inside = tuple((_share(math.log10(decade), bottom, top), parameter(decade)) for decade in decades[::step])
        return AxisScale("log", bottom, top, (), inside or ((0.0, parameter(low)), (1.0, parameter(high))))
    whole = all(isinstance(number, int) for number in numbers)
    if whole and high - low <= 8:
        ticks: list[float] = list(range(int(low), int(high) + 1))
    else:
        ticks = [low + (high - low) * share for share in (0.0, 0.5, 1.0)]
        ticks = [round(tick) if whole else tick for tick in ticks]
    marks = tuple((_share(tick, low, high), parameter(float(f"{tick:.3g}"))) for tick in ticks)
    return AxisScale("linear", float(low), float(high), (), marks)


def _of_categories(values: Sequence[Scalar]) -> AxisScale:
    names = tuple(sorted({parameter(value) for value in values}))
    step = max(1, math.ceil(len(names) / MAX_CATEGORIES))
    marks = tuple((_share(place, 0, len(names) - 1), names[place]) for place in range(0, len(names), step))
    return AxisScale("category", 0.0, 1.0, names, marks)


def _transformed(value: float, kind: str) -> float:
    return math.log10(value) if kind == "log" else float(value)


def _share(value: float, low: float, high: float) -> float:
    return 0.5 if high <= low else (value - low) / (high - low)
