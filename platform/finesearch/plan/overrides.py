"""``--set KEY=VALUE``: values given beside a plan file, laid over its data before anything is checked."""

import copy
from collections.abc import Mapping, Sequence
from typing import Any

from finesearch.errors import PlanError
from finesearch.plan.problems import KeyPath, Problems, dotted, shown
from finesearch.plan.yaml_text import read_yaml


def apply_overrides(
    data: Mapping[str, Any], places: Mapping[KeyPath, str], overrides: Sequence[str], problems: Problems
) -> tuple[dict[str, Any], dict[KeyPath, str]]:
    """The data with every override laid over it, later ones last, and where each value now stands.

    KEY is dotted (``training.epochs``, ``search.first.0.dropout``); VALUE is YAML and replaces what stands there whole.

    >>> apply_overrides({"training": {"epochs": 3}}, {}, ["training.epochs=5", "budget.hours=1e-1"], Problems())[0]
    {'training': {'epochs': 5}, 'budget': {'hours': 0.1}}
    """
    result, labels = copy.deepcopy(dict(data)), dict(places)
    for override in overrides:
        label = f"--set {override}"
        key, equals, text = override.partition("=")
        parts = key.strip().split(".")
        if not equals or not all(parts):
            _refuse(
                label, "expected KEY=VALUE with a dotted KEY", "Write e.g. --set training.epochs=5.", problems, labels
            )
            continue
        below: dict[KeyPath, str] = {}
        try:
            value, below = read_yaml(text, label, problems, lines=False)
        except PlanError as error:
            _refuse(
                label,
                error.message.removeprefix(f"{label}: ").split(".\n")[0],
                "Quote VALUE for the shell.",
                problems,
                labels,
            )
            continue
        path = _lay(result, parts, value, label, problems, labels)
        if path is not None:
            labels = {at: place for at, place in labels.items() if at[: len(path)] != path}
            labels |= {(*path, *at): place for at, place in below.items()}
    return result, labels


def _lay(
    data: dict[str, Any], parts: list[str], value: Any, label: str, problems: Problems, labels: dict[KeyPath, str]
) -> KeyPath | None:
    """Put ``value`` at the end of ``parts``, making mappings on the way; the path, or None when there is no way."""
    node: Any = data
    path: KeyPath = ()
    for index, part in enumerate(parts):
        is_last = index == len(parts) - 1
        if isinstance(node, list):
            if not part.isdecimal() or int(part) >= len(node):
                text = f"'{dotted(path)}' is a list of {len(node)}, and '{part}' is none of its positions"
                _refuse(
                    label, text, f"Positions count from 0; set '{dotted(path)}' whole to add one.", problems, labels
                )
                return None
            step: str | int = int(part)
        elif isinstance(node, dict):
            step = part
            if not is_last and node.get(part) is None:
                node[part] = {}
                labels[(*path, part)] = label
        else:
            text = f"'{dotted(path)}' is the single value {shown(node)} here, so it has no '{part}'"
            _refuse(label, text, f"Set it whole: --set '{dotted(path)}={{{part}: …}}'.", problems, labels)
            return None
        path = (*path, step)
        if is_last:
            node[step] = value
        else:
            node = node[step]
    return path


def _refuse(label: str, text: str, advice: str, problems: Problems, labels: dict[KeyPath, str]) -> None:
    # Keyed by the argument itself: a problem of an argument has no place in the file.
    labels[(label,)] = label
    problems.add((label,), text, advice)
