"""Parses the configurations under ``search.first``: nested like the space, checked, flattened."""

from collections.abc import Mapping
from typing import Any

from finesearch.plan.problems import KeyPath, Problems, SourceLocations, did_you_mean, dotted, format_value
from finesearch.plan.space.branches import SELECTORS
from finesearch.plan.space.parameters import PARAMETERS, ParameterSpec, Scalar
from finesearch.plan.space.search_space import Parameter, Space


def first_configuration(space: Space, configuration: Mapping[str, Any]) -> dict[str, Scalar]:
    """The flat names and values of one ``search.first`` entry, which is nested like the space.

    The sampler draws parameters that the entry leaves out; fixed values may be repeated and are not returned.

    Raises:
        PlanError: it names a parameter or a value that is not in the space.
    """
    problems = Problems()
    flat = read_configuration(space, configuration, problems, ("search", "first"))
    problems.raise_if_any(SourceLocations("search.first"))
    return flat


def read_configuration(space: Space, raw: Any, problems: Problems, path: KeyPath) -> dict[str, Scalar]:
    """The flat configuration in the space's order; problems are added, and their parameters left out."""
    if not isinstance(raw, Mapping):
        problems.add(
            path,
            f"{dotted(path)}: expected a configuration such as {{learning_rate: 1e-4}}, got {format_value(raw)}",
            "Each entry of search.first is a mapping, nested as the space is.",
        )
        return {}
    chosen, flat = _read_choices(space, raw, problems, path)
    for key, value in raw.items():
        if key in space.values:
            _read_root(space, key, value, chosen, flat, problems, path=(*path, key))
        elif key not in SELECTORS:
            known = sorted([*space.selectors, *space.values])
            problems.add((*path, key), f"'{key}' is not in the space", did_you_mean(key, known))
    return {parameter.name: flat[parameter.name] for parameter in space.parameters if parameter.name in flat}


def _read_choices(
    space: Space, raw: Mapping[str, Any], problems: Problems, path: KeyPath
) -> tuple[dict[str, str], dict[str, Scalar]]:
    """The chosen branch of each choice, where one is known, and the flat values inside the branches."""
    chosen = {name: next(iter(branches)) for name, branches in space.selectors.items() if len(branches) == 1}
    flat: dict[str, Scalar] = {}
    for selector, branches in space.selectors.items():
        if selector not in raw:
            continue
        value, below = raw[selector], (*path, selector)
        branch, inner = value, None
        if isinstance(value, Mapping) and len(value) == 1:
            ((branch, inner),) = value.items()
        if not isinstance(branch, str) or not isinstance(inner, Mapping | None):
            text = f"{dotted(below)}: expected one branch, as {{branch: {{…}}}} or its name, got {format_value(value)}"
            problems.add(below, text, f"The space has: {', '.join(branches)}.")
            continue
        if branch not in branches:
            text = f"{dotted(below)}: the space has no branch '{branch}'"
            problems.add(below, text, did_you_mean(branch, branches))
            continue
        chosen[selector] = flat[selector] = branch
        for key, item in (inner or {}).items():
            _read_own(space, (selector, branch, key), item, flat, problems, (*below, branch, key))
    return chosen, flat


def _read_own(
    space: Space, address: tuple[str, str, str], value: Any, flat: dict[str, Scalar], problems: Problems, path: KeyPath
) -> None:
    selector, branch, key = address
    own = space.selectors[selector][branch]
    if key not in own:
        text = f"'{key}' is not in the branch '{branch}' of the space"
        problems.add(path, text, did_you_mean(key, own) or "The space gives this branch no parameters.")
        return
    _read_value(
        Parameter(".".join(address), key, own[key]), SELECTORS[selector][branch].known[key], value, flat, problems, path
    )


def _read_root(
    space: Space,
    key: str,
    value: Any,
    chosen: Mapping[str, str],
    flat: dict[str, Scalar],
    problems: Problems,
    *,
    path: KeyPath,
) -> None:
    for selector, branch in chosen.items():
        if key in space.selectors[selector][branch]:
            text = f"{dotted(path)}: has no effect: {selector} {branch} has a '{key}' of its own"
            problems.add(path, text, f"Write '{selector}: {{{branch}: {{{key}: {format_value(value)}}}}}'.")
            return
        if key in SELECTORS[selector][branch].without_effect:
            problems.add(
                path, f"{dotted(path)}: has no effect under {selector} {branch}", "Leave it out of this entry."
            )
            return
    _read_value(Parameter(key, key, space.values[key]), PARAMETERS[key], value, flat, problems, path)


def _read_value(
    parameter: Parameter,
    spec: ParameterSpec,
    value: Any,
    flat: dict[str, Scalar],
    problems: Problems,
    path: KeyPath,
) -> None:
    normalized = spec.normalized(value) if spec.accepts(value) else value
    if spec.accepts(value) and parameter.domain.contains(normalized):
        flat[parameter.name] = normalized
        return
    text = f"{dotted(path)}: expected {parameter.domain.text}, got {format_value(value)}"
    problems.add(path, text, "A configuration to try first must lie in the space: change it, or widen the space.")
