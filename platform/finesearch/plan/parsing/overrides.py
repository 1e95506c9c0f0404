"""Applies ``--set KEY=VALUE`` overrides to the data of a plan file before validation."""

import copy
from collections.abc import Mapping, Sequence
from typing import Any

from finesearch.errors import PlanError
from finesearch.plan.parsing.yaml_lines import MAX_DEPTH, read_yaml
from finesearch.plan.problems import KeyPath, Problems, dotted, format_value
from finesearch.redaction import redact

MOST_SHOWN = 200
"""Characters of an argument that messages repeat."""


def apply_overrides(
    data: Mapping[str, Any], places: Mapping[KeyPath, str], overrides: Sequence[str], problems: Problems
) -> tuple[dict[str, Any], dict[KeyPath, str]]:
    """The data with all overrides applied in order, and where each value is written now.

    KEY is dotted (``training.epochs``, ``search.first.0.dropout``); VALUE is YAML and replaces the whole value there.

    >>> apply_overrides({"training": {"epochs": 3}}, {}, ["training.epochs=5", "budget.hours=1e-1"], Problems())[0]
    {'training': {'epochs': 5}, 'budget': {'hours': 0.1}}
    """
    overlay = _Overlay(data, places, problems)
    for override in overrides:
        overlay.apply(override)
    return overlay.data, overlay.places


def _shortened(text: str) -> str:
    return text if len(text) <= MOST_SHOWN else f"{text[: MOST_SHOWN - 1]}…"


class _Overlay:
    """A copy of a plan's data and the places of its values, to which overrides are applied."""

    def __init__(self, data: Mapping[str, Any], places: Mapping[KeyPath, str], problems: Problems) -> None:
        self.data = copy.deepcopy(dict(data))
        self.places = dict(places)
        self.problems = problems

    def apply(self, override: str) -> None:
        label = f"--set {_shortened(redact(override))}"
        key, equals, text = override.partition("=")
        parts = key.strip().split(".")
        if not equals or not all(parts):
            self._refuse(label, "expected KEY=VALUE with a dotted KEY", "Write e.g. --set training.epochs=5.")
            return
        if len(parts) > MAX_DEPTH:
            text = f"a KEY of {len(parts):,} levels, expected at most {MAX_DEPTH}"
            self._refuse(label, text, "Write e.g. --set training.epochs=5.")
            return
        inner = Problems()
        try:
            value, places = read_yaml(text, label, inner, lines=False)
        except PlanError as error:
            came = error.message.removeprefix(f"{label}: ").split(".\n")[0]
            self._refuse(label, came, "VALUE is YAML; quote it for the shell.")
            return
        path = self._set_value(parts, value, label)
        if path is None:
            return
        self.places = {at: place for at, place in self.places.items() if at[: len(path)] != path}
        self.places |= {(*path, *at): place for at, place in places.items()}
        for problem in inner.found:
            found = problem.below(path)
            self.problems.add(found.path, found.text, found.advice)

    def _set_value(self, parts: list[str], value: Any, label: str) -> KeyPath | None:
        """Set ``value`` at ``parts``, creating mappings on the way; its path, or None when that is impossible."""
        node: Any = self.data
        path: KeyPath = ()
        for index, part in enumerate(parts):
            is_last = index == len(parts) - 1
            step: str | int = part
            if isinstance(node, list):
                if not part.isdecimal() or int(part) >= len(node):
                    text = f"'{dotted(path)}' is a list of {len(node)}, and '{part}' is none of its positions"
                    advice = f"Positions count from 0; set '{dotted(path)}' whole to add one."
                    self._refuse(label, text, advice)
                    return None
                step = int(part)
            elif not isinstance(node, dict):
                text = f"'{dotted(path)}' is the single value {format_value(node)} here, so it has no '{part}'"
                self._refuse(label, text, f"Set it whole: --set '{dotted(path)}={{{part}: …}}'.")
                return None
            elif not is_last and node.get(part) is None:
                node[part] = {}
                self.places[(*path, part)] = label
            path = (*path, step)
            if is_last:
                node[step] = value
            else:
                node = node[step]
        return path

    def _refuse(self, label: str, text: str, advice: str) -> None:
        # Keyed by the argument itself: a problem of an argument has no line in the file.
        self.places[(label,)] = label
        self.problems.add((label,), text, advice)
