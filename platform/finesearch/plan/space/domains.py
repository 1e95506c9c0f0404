"""Domains of searched parameters: one value, a list of values, or a range."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Protocol

from finesearch.plan.space.parameters import Scalar


class Trial(Protocol):
    """The three methods of ``optuna.trial.Trial`` that a space draws with."""

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any: ...

    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False
    ) -> float: ...

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1, log: bool = False) -> int: ...


@dataclass(frozen=True)
class Fixed:
    """One value; nothing is drawn."""

    value: Scalar

    def contains(self, value: Scalar) -> bool:
        return _same(value, self.value)

    @property
    def grid(self) -> tuple[Scalar, ...]:
        return (self.value,)

    @property
    def text(self) -> str:
        return f"the fixed value {_word(self.value)}"

    def to_plain(self) -> Any:
        return self.value


@dataclass(frozen=True)
class Choice:
    """One of ``values``, which are unordered."""

    values: tuple[Scalar, ...]

    def suggest(self, trial: Trial, name: str) -> Scalar:
        drawn: Scalar = trial.suggest_categorical(name, self.values)
        return drawn

    def contains(self, value: Scalar) -> bool:
        return any(_same(value, other) for other in self.values)

    @property
    def grid(self) -> tuple[Scalar, ...]:
        return self.values

    @property
    def text(self) -> str:
        return f"one of {', '.join(_word(value) for value in self.values)}"

    def to_plain(self) -> Any:
        return list(self.values)


@dataclass(frozen=True)
class Range:
    """A number from ``low`` to ``high``, both included.

    ``log`` draws its logarithm evenly; ``step`` counts from ``low``.
    """

    low: float
    high: float
    log: bool = False
    step: float | None = None
    integer: bool = False

    def suggest(self, trial: Trial, name: str) -> Scalar:
        if self.integer:
            step = int(self.step) if self.step is not None else 1
            return trial.suggest_int(name, int(self.low), int(self.high), step=step, log=self.log)
        return trial.suggest_float(name, self.low, self.high, step=self.step, log=self.log)

    def contains(self, value: Scalar) -> bool:
        """Whether ``value`` can be drawn.

        >>> Range(0.0, 0.3, step=0.1).contains(0.2), Range(0.0, 0.3, step=0.1).contains(0.25)
        (True, False)
        """
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            return False
        if self.integer and not isinstance(value, int):
            return False
        if not self.low <= value <= self.high:
            return False
        return self.step is None or on_step(self.low, value, self.step)

    @property
    def is_continuous(self) -> bool:
        return not self.integer and self.step is None

    @property
    def grid(self) -> tuple[Scalar, ...]:
        """Every value of a stepped or whole-number range.

        >>> Range(0.0, 0.3, step=0.1).grid
        (0.0, 0.1, 0.2, 0.3)
        """
        assert not self.is_continuous
        step = Decimal(repr(self.step if self.step is not None else 1))
        count = int((Decimal(repr(self.high)) - Decimal(repr(self.low))) / step)
        values = (Decimal(repr(self.low)) + index * step for index in range(count + 1))
        return tuple(int(value) if self.integer else float(value) for value in values)

    @property
    def text(self) -> str:
        steps = f" in steps of {self.step!r}" if self.step is not None else ""
        return f"from {self.low!r} to {self.high!r}{steps}"

    def to_plain(self) -> Any:
        plain: dict[str, Scalar] = {"min": self.low, "max": self.high}
        if self.log:
            plain["log"] = True
        if self.step is not None:
            plain["step"] = self.step
        return plain


Domain = Fixed | Choice | Range


def boundary_values(domain: Domain) -> tuple[Any, ...]:
    """Both ends of a range, or every value of any other domain, for checks of limits.

    >>> boundary_values(Range(0.0, 0.3)), boundary_values(Choice((1, 2, 4)))
    ((0.0, 0.3), (1, 2, 4))
    """
    return (domain.low, domain.high) if isinstance(domain, Range) else domain.grid


def on_step(low: float, value: float, step: float) -> bool:
    """Whether ``value`` is ``low`` plus a whole number of steps, in decimal arithmetic.

    >>> on_step(0.0, 0.3, 0.1), on_step(1, 6, 2)
    (True, False)
    """
    return (Decimal(repr(value)) - Decimal(repr(low))) % Decimal(repr(step)) == 0


def _same(one: Scalar, other: Scalar) -> bool:
    # In Python True equals 1; in a plan they are two values.
    return type(one) is type(other) and one == other


def _word(value: Scalar) -> str:
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
