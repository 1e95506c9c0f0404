"""Parses the mapping under ``space`` in a plan file into a space; collects all problems."""

from collections.abc import Mapping
from typing import Any

from finesearch.plan.problems import KeyPath, Problems, SourceLocations, did_you_mean, dotted, format_value
from finesearch.plan.space.branches import ADAPTATIONS, BASE_WEIGHTS, DEFAULT_BRANCHES, SELECTORS, Branch
from finesearch.plan.space.domains import Domain, Fixed
from finesearch.plan.space.parameters import PARAMETERS
from finesearch.plan.space.parse_domain import read_domain
from finesearch.plan.space.search_space import Space

AUTO_SPACE = Space({name: {branch: {}} for name, branch in DEFAULT_BRANCHES.items()}, {}, is_auto=True)
"""What ``space: auto`` is until rows and model are known."""


def parse_space(mapping: Mapping[str, Any] | str) -> Space:
    """The space of a mapping, or of the word ``auto``.

    >>> [parameter.name for parameter in parse_space({"dropout": [0.0, 0.1], "weight_decay": 0.01}).parameters]
    ['dropout']

    Raises:
        PlanError: with every problem.
    """
    problems = Problems()
    space = read_space(mapping, problems)
    problems.raise_if_any(SourceLocations("space"))
    assert space is not None
    return space


def read_space(raw: Any, problems: Problems, path: KeyPath = ("space",)) -> Space | None:
    """The space, or None when something was added to ``problems``."""
    if raw == "auto":
        return AUTO_SPACE
    if not isinstance(raw, Mapping):
        problems.add(
            path,
            f"{dotted(path)}: expected auto or a mapping of parameters, got {format_value(raw)}",
            "Write what is searched below it, e.g. 'learning_rate: {min: 1e-6, max: 1e-3, log: true}', or auto.",
        )
        return None
    before = len(problems.found)
    values: dict[str, Domain | None] = {}
    selectors: dict[str, dict[str, dict[str, Domain]]] = {}
    for key, value in raw.items():
        if key in SELECTORS:
            selectors[key] = _read_selector(key, value, problems, (*path, key))
        elif key in PARAMETERS:
            values[key] = read_domain(PARAMETERS[key], value, problems, (*path, key))
        else:
            _refuse_unknown(key, problems, (*path, key))
    _check_overrides(selectors, problems, path)
    if len(problems.found) > before:
        return None
    space = Space(
        # In the registry's order, so that the order in the file changes neither the study nor the plan's fingerprint.
        {
            name: {branch: selectors[name][branch] for branch in branches if branch in selectors[name]}
            if name in selectors
            else {DEFAULT_BRANCHES[name]: {}}
            for name, branches in SELECTORS.items()
        },
        {key: domain for key in PARAMETERS if (domain := values.get(key)) is not None},
    )
    _check_nesterov(space, problems, path)
    _check_averages(space, problems, path)
    return space if len(problems.found) == before else None


def _refuse_unknown(key: str, problems: Problems, path: KeyPath) -> None:
    for selector, branches in SELECTORS.items():
        for branch in branches.values():
            if key in branch.parameters:
                advice = f"It belongs to a branch: '{selector}: {{one_of: {{{branch.name}: {{{key}: …}}}}}}'."
                problems.add(path, f"'{key}' does not stand at the top of the space", advice)
                return
    problems.add(path, f"unknown parameter '{key}'", did_you_mean(key, sorted([*SELECTORS, *PARAMETERS])))


def _read_selector(name: str, raw: Any, problems: Problems, path: KeyPath) -> dict[str, dict[str, Domain]]:
    """Branches with their domains; invalid ones are added to ``problems`` and left out."""
    known = SELECTORS[name]
    if isinstance(raw, str):
        items: Mapping[str, Any] = {raw: {}}
    elif isinstance(raw, list) and raw and all(isinstance(branch, str) for branch in raw):
        items = {branch: {} for branch in raw}
    elif isinstance(raw, Mapping) and set(raw) == {"one_of"} and isinstance(raw["one_of"], Mapping) and raw["one_of"]:
        items, path = raw["one_of"], (*path, "one_of")
    else:
        example = next(iter(known))
        problems.add(
            path,
            f"{dotted(path)}: expected the name of a branch, a list of names or {{one_of: {{branch: {{…}}}}}}, "
            f"got {format_value(raw)}",
            f"Write e.g. '{name}: {{one_of: {{{example}: {{}}}}}}'. Known here: {', '.join(known)}.",
        )
        return {}
    selected: dict[str, dict[str, Domain]] = {}
    for branch, inner in items.items():
        # A branch written as a bare name has no path of its own: its problems get the path of the choice.
        below = (*path, branch) if isinstance(raw, Mapping) else path
        if branch not in known:
            problems.add(below, f"unknown branch '{branch}' of {name}", did_you_mean(branch, known))
        else:
            selected[branch] = _read_branch(name, known[branch], {} if inner is None else inner, problems, below)
    return selected


def _read_branch(selector: str, branch: Branch, raw: Any, problems: Problems, path: KeyPath) -> dict[str, Domain]:
    if not isinstance(raw, Mapping):
        problems.add(
            path,
            f"{dotted(path)}: expected a mapping of the branch's parameters, got {format_value(raw)}",
            f"Write '{branch.name}: {{}}' for a branch without parameters.",
        )
        return {}
    domains: dict[str, Domain] = {}
    for key in [*raw, *(name for name in branch.required if name not in raw)]:
        below = (*path, key)
        if key not in raw:
            example = "[…]" if branch.parameters[key].is_list else "{min: 1, max: 5}"
            problems.add(
                path,
                f"the branch '{branch.name}' needs '{key}': {branch.parameters[key].expected}",
                f"Write '{selector}: {{one_of: {{{branch.name}: {{{key}: {example}}}}}}}'.",
            )
        elif key in branch.without_effect:
            problems.add(below, f"'{key}' has no effect under {selector} {branch.name}", "Remove it from this branch.")
        elif key == BASE_WEIGHTS and key not in branch.known:
            takers = [name for name, each in ADAPTATIONS.items() if key in each.parameters]
            does = "needs them as they are" if selector == "adaptation" else "is no adaptation"
            problems.add(
                below,
                f"'{key}' belongs to adaptations that only add to frozen weights of the base, and "
                f"'{branch.name}' {does}",
                f"Write it under {', '.join(takers)}, or remove it.",
            )
        elif key not in branch.known:
            problems.add(
                below, f"unknown parameter '{key}' of the branch '{branch.name}'", did_you_mean(key, branch.known)
            )
        elif (domain := read_domain(branch.known[key], raw[key], problems, below)) is not None:
            domains[key] = domain
    return {key: domains[key] for key in branch.known if key in domains}


def _check_overrides(
    selectors: Mapping[str, Mapping[str, Mapping[str, Domain]]], problems: Problems, path: KeyPath
) -> None:
    """A root parameter may be replaced in the branches of one choice, not of two: neither would take precedence."""
    seen: dict[str, str] = {}
    for selector, branches in selectors.items():
        for branch, own in branches.items():
            for key in (name for name in own if name in PARAMETERS):
                first = seen.setdefault(key, selector)
                if first != selector:
                    problems.add(
                        (*path, selector, "one_of", branch, key),
                        f"'{key}' stands in branches of both {first} and {selector}",
                        "Keep it in the branches of one of them.",
                    )


def _check_nesterov(space: Space, problems: Problems, path: KeyPath) -> None:
    sgd = space.selectors["optimizer"].get("sgd", {})
    momentum = sgd.get("momentum", Fixed(0.9))
    if sgd.get("nesterov", Fixed(False)).contains(True) and momentum.contains(0.0):
        problems.add(
            (*path, "optimizer", "one_of", "sgd", "nesterov"),
            "nesterov needs a momentum above 0, and this space holds momentum 0",
            "Give momentum a range or a list without 0, or drop nesterov.",
        )


def _check_averages(space: Space, problems: Problems, path: KeyPath) -> None:
    """A configuration may have one average of the weights, not two: it is unclear which one would be saved."""
    emas, swas = (
        [entry for entry in space.entries if entry.key == key and entry.domain != Fixed(None)]
        for key in ("ema_decay", "swa_start")
    )
    for ema in emas:
        for swa in swas:
            one, other = dict(ema.conditions), dict(swa.conditions)
            if all(set(one[selector]) & set(other[selector]) for selector in one.keys() & other.keys()):
                selector, *inner = swa.name.split(".")
                text = f"space.{swa.name}: both it and {ema.name} average the weights"
                below = (*path, selector, "one_of", *inner) if inner else (*path, selector)
                problems.add(below, text, "Keep one of them, or give each to other branches.")
