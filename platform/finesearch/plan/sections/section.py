"""The base of every section of a plan."""

from typing import Any

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """Frozen, unknown keys refused, ``"3"`` is not 3."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


def as_tuple(value: Any, lone: type | tuple[()] = ()) -> Any:
    """A list as a tuple, a single value of type ``lone`` as a tuple of it; other values unchanged, for the type check.

    >>> as_tuple([1, 2]), as_tuple("a"), as_tuple("a", lone=str)
    ((1, 2), 'a', ('a',))
    """
    if isinstance(value, list):
        return tuple(value)
    return (value,) if isinstance(value, lone) and not isinstance(value, tuple) else value
