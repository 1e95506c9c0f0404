"""Parses the domain of a parameter in a plan file: a value, a list, or a range."""

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from finesearch.plan.problems import KeyPath, Problems, did_you_mean, dotted, format_value
from finesearch.plan.space.domains import Choice, Domain, Fixed, Range, on_step
from finesearch.plan.space.list_values import split
from finesearch.plan.space.parameters import ParameterSpec

_RANGE_KEYS = ("min", "max", "log", "step")


def read_domain(spec: ParameterSpec, raw: Any, problems: Problems, path: KeyPath) -> Domain | None:
    """The domain, or None when something was added to ``problems``."""
    if isinstance(raw, Mapping):
        return _read_range(spec, raw, problems, path)
    if isinstance(raw, list) and (not spec.is_list or any(isinstance(item, list) for item in raw)):
        return _read_choice(spec, raw, problems, path)
    if not spec.accepts(raw):
        text = f"{dotted(path)}: expected {spec.expected}, got {format_value(raw)}{spec.problem(raw)}"
        problems.add(path, text, _forms(spec))
        return None
    return Fixed(spec.normalized(raw))


def _forms(spec: ParameterSpec) -> str:
    if spec.is_numeric:
        return "Write one value, a list of values, or a range {min: …, max: …}."
    if spec.is_list:
        return "A list is one value here; write a list of lists to choose from."
    return "Write one value or a list of values."


def written(spec: ParameterSpec, domain: Domain) -> Any:
    """The form of ``domain`` in a plan file; parsing it gives an equal domain."""
    if not spec.is_list:
        return domain.to_plain()
    lists = [split(str(value)) for value in domain.grid]
    return lists if len(lists) > 1 else lists[0]


def _read_choice(spec: ParameterSpec, raw: list[Any], problems: Problems, path: KeyPath) -> Domain | None:
    if not raw:
        text = f"{dotted(path)}: expected a list of at least one value, got an empty list"
        problems.add(path, text, "A list is a choice among its values.")
        return None
    values: list[Any] = []
    is_good = True
    for index, item in enumerate(raw):
        below = (*path, index)
        if not spec.accepts(item):
            text = f"{dotted(below)}: expected {spec.expected}, got {format_value(item)}{spec.problem(item)}"
            problems.add(below, text, "Each value of the list is one choice.")
            is_good = False
        elif spec.normalized(item) in values:
            problems.add(
                below,
                f"{dotted(below)}: {format_value(spec.normalized(item))} stands twice in this list",
                "Keep one of them.",
            )
            is_good = False
        else:
            values.append(spec.normalized(item))
    if not is_good:
        return None
    return Choice(tuple(values)) if len(values) > 1 else Fixed(values[0])


def _read_range(spec: ParameterSpec, raw: Mapping[str, Any], problems: Problems, path: KeyPath) -> Range | None:
    key = dotted(path)
    if not spec.is_numeric:
        text = f"{key}: expected {spec.expected}, or a list of such values, got {format_value(raw)}"
        problems.add(path, text, "Only numbers have ranges; write a list to choose from.")
        return None
    if "one_of" in raw:
        text = f"{key}: 'one_of' stands only under adaptation and optimizer"
        problems.add(path, text, "Write a list of values to choose from.")
        return None
    before = len(problems.found)
    for name in raw:
        if name not in _RANGE_KEYS:
            problems.add((*path, name), f"unknown key '{name}' of a range", did_you_mean(name, _RANGE_KEYS))
    low = _bound("min", spec, raw, problems, path)
    high = _bound("max", spec, raw, problems, path)
    log, step = raw.get("log", False), raw.get("step")
    if not isinstance(log, bool):
        problems.add(
            (*path, "log"), f"{key}.log: expected true or false, got {format_value(log)}", "Write 'log: true'."
        )
    if step is not None and not _is_step(spec, step):
        noun = "a whole number" if spec.kind == "integer" else "a number"
        text = f"{key}.step: expected {noun} above 0, got {format_value(step)}"
        problems.add((*path, "step"), text, "A step is the distance between neighbouring values.")
    if len(problems.found) == before:
        assert low is not None
        assert high is not None
        _check_together(low, high, log, step, problems, path)
    if len(problems.found) > before:
        return None
    assert low is not None
    assert high is not None
    is_integer = spec.kind == "integer"
    if step is not None and not is_integer:
        step = float(step)
    return Range(low, high, log=log, step=step, integer=is_integer)


def _bound(
    name: str, spec: ParameterSpec, raw: Mapping[str, Any], problems: Problems, path: KeyPath
) -> float | int | None:
    expected = replace(spec, words=(), nullable=False).expected
    if name not in raw:
        advice = f"Write '{path[-1]}: {{min: …, max: …}}', a list of values, or one value."
        problems.add(path, f"{dotted(path)}: a range needs '{name}': {expected}", advice)
        return None
    value = raw[name]
    if value is None or isinstance(value, str) or not spec.accepts(value):
        text = f"{dotted(path)}.{name}: expected {expected}, got {format_value(value)}"
        problems.add((*path, name), text, f"Move '{name}' to where {path[-1]} can be.")
        return None
    normalized = spec.normalized(value)
    assert isinstance(normalized, int | float)
    return normalized


def _is_step(spec: ParameterSpec, step: Any) -> bool:
    if isinstance(step, bool) or not isinstance(step, int | float) or not math.isfinite(step) or step <= 0:
        return False
    return isinstance(step, int) or spec.kind == "float"


def _check_together(low: float, high: float, log: bool, step: float | None, problems: Problems, path: KeyPath) -> None:
    key = dotted(path)
    if low >= high:
        advice = "Swap them." if low > high else f"Write '{path[-1]}: {low!r}' for one value."
        problems.add(path, f"{key}: the range is empty: min {low!r} is not below max {high!r}", advice)
        return
    if log and low <= 0:
        text = f"{key}: a log range needs a min above 0, got {low!r}"
        problems.add((*path, "min"), text, "Raise min (1e-6, say), or drop 'log: true'.")
    if log and step is not None:
        problems.add((*path, "step"), f"{key}: 'log' and 'step' do not go together", "Drop one, or write a list.")
    elif step is not None and not on_step(low, high, step):
        text = f"{key}: max {high!r} is not min {low!r} plus a whole number of steps of {step!r}"
        problems.add((*path, "step"), text, "Move max or change the step, so that the last step lands on max.")
