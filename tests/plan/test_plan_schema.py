from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from jsonschema import Draft202012Validator
from test_plan_resolved import FULL
from test_plan_space import spaces

from finesearch.plan import ADAPTATIONS, OPTIMIZERS, PARAMETERS, TASK_KINDS, json_schema
from finesearch.plan.parsing.yaml_lines import read_yaml
from finesearch.plan.problems import Problems
from plan_examples import BRANCHED, MINIMAL, changed, made

SEARCH_SPACES = sorted((Path(__file__).parents[2] / "search_spaces").glob("*.yaml"))
VALIDATOR = Draft202012Validator(json_schema())


def problems(plan: Any) -> list[str]:
    return [error.message for error in VALIDATOR.iter_errors(plan)]


def test_the_schema_is_a_schema() -> None:
    Draft202012Validator.check_schema(json_schema())


@pytest.mark.parametrize("path", SEARCH_SPACES, ids=lambda path: path.name)
def test_the_schema_takes_every_example_and_what_it_resolves_to(path: Path) -> None:
    data, _ = read_yaml(path.read_text(), path.name, Problems())
    assert problems(data) == []


@pytest.mark.parametrize("change", [{}, {"space": BRANCHED}, FULL, {"space": {}}, {"training": {}}])
def test_the_schema_takes_resolved_plans(change: dict[str, Any]) -> None:
    assert problems(made(**change).to_plain()) == []


@given(spaces())
@settings(max_examples=60, deadline=None)
def test_the_schema_takes_every_space_that_can_be_read(space: dict[str, Any]) -> None:
    assert problems(MINIMAL | {"space": space}) == []


@pytest.mark.parametrize(
    "change",
    [
        {"tsk": 1},
        {"name": "a/b"},
        {"task": None},
        {"task__kind": "x"},
        {"task__metric": "x"},
        {"task__form": "x"},
        {"task__columns__txt": "x"},
        {"task__data__train": []},
        {"task__max_length": "many"},
        {"training__epochs": 0},
        {"training__precision": "fp16"},
        {"search__sampler": "best"},
        {"search__objectives": [{"gaol": "max"}]},
        {"budget__hours": 0},
        {"report__baselines": ["x"]},
        {"space": {"learning_rte": 1e-4}},
        {"space": {"learning_rate": 0}},
        {"space": {"dropout": {"min": 0.1}}},
        {"space": {"dropout": []}},
        {"space": {"schedule": {"min": 1, "max": 2}}},
        {"space": {"adaptation": "lorra"}},
        {"space": {"adaptation": {"one_of": {"lorra": {}}}}},
        {"space": {"adaptation": {"one_of": {"lora": {"targets": []}}}}},
        {"space": {"adaptation": {"one_of": {"lora": {"rank": 0}}}}},
        {"space": {"adaptation": {"one_of": {"freeze_bottom": {}}}}},
        {"space": {"adaptation": {"one_of": {"head_only": {"dropout": 0.1}}}}},
        {"space": {"optimizer": {"one_of": {"sgd": {"beta1": 0.9}}}}},
    ],
    ids=str,
)
def test_the_schema_refuses_what_reading_refuses(change: dict[str, Any]) -> None:
    assert problems(changed(**change))


def properties(schema: Any) -> list[tuple[str, Any]]:
    """Every (name, schema) of every mapping in the schema."""
    found = []
    if isinstance(schema, dict):
        found += [(name, inner) for name, inner in schema.get("properties", {}).items() if isinstance(inner, dict)]
    for inner in schema.values() if isinstance(schema, dict) else schema if isinstance(schema, list) else []:
        found += properties(inner)
    return found


def test_editors_find_a_description_for_every_key() -> None:
    bare = [name for name, inner in properties(json_schema()) if "description" not in inner and name != "one_of"]
    assert bare == []


def test_editors_complete_every_name_that_the_registries_hold() -> None:
    names = {name for name, _ in properties(json_schema())}
    assert names >= {*PARAMETERS, *ADAPTATIONS, *OPTIMIZERS, "layers", "momentum", "beta1", "one_of", "min", "log"}
    assert names >= {role for kind in TASK_KINDS.values() for role in kind.columns}
