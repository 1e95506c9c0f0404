"""Whatever stands in a plan file, reading it gives a plan or a ``PlanError``, never another exception."""

import contextlib
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from test_plan_resolved import FULL
from test_plan_yaml import data

from finesearch.errors import PlanError
from finesearch.plan import Plan, parse_plan
from finesearch.plan.parsing.yaml_lines import write_yaml
from plan_examples import BRANCHED, changed, made

WORDS = st.sampled_from(
    ["full", "head_only", "freeze_bottom", "one_of", "min", "max", "log", "step", "layers", "tpe", "grid", "accuracy"]
)
VALUES = data | WORDS | st.dictionaries(WORDS, data | WORDS) | st.sampled_from([2**63 - 1, 2**64, 10**400])


def paths(value: Any, path: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(below for key, inner in items for below in paths(inner, (*path, key)))]


WHOLE = made(**FULL).to_plain()
PATHS = [path for path in paths(WHOLE) if path]


def read(text: str, overrides: tuple[str, ...] = ()) -> Plan | None:
    with contextlib.suppress(PlanError):
        return parse_plan(text, overrides=overrides)
    return None


@given(st.lists(st.tuples(st.sampled_from(PATHS), VALUES), min_size=1, max_size=4))
@settings(max_examples=80, deadline=None)
def test_a_plan_with_anything_anywhere_is_read_or_refused(changes: list[tuple[tuple[str | int, ...], Any]]) -> None:
    plan = parse_plan(write_yaml(WHOLE)).to_plain()
    for (*parents, last), value in changes:
        node: Any = plan
        for parent in parents:
            try:
                node = node[parent]
            except (KeyError, IndexError, TypeError):
                break
        else:
            if isinstance(node, dict) or (isinstance(node, list) and isinstance(last, int) and last < len(node)):
                node[last] = value
    came = read(write_yaml(plan))
    if came is not None:
        assert parse_plan(came.to_yaml()) == came
        assert isinstance(came.warnings, tuple)
        assert came.max_evaluations >= 1


@given(st.text())
@settings(max_examples=100, deadline=None)
def test_any_text_is_read_or_refused(text: str) -> None:
    read(text)


@given(st.sampled_from([".".join(map(str, path)) for path in PATHS]) | st.text(), st.text())
@settings(max_examples=100, deadline=None)
def test_any_override_is_read_or_refused(key: str, value: str) -> None:
    read(write_yaml(changed(space=BRANCHED)), (f"{key}={value}",))
