"""docs/plan.md is what `make docs` writes, and names every key that the schema knows."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest

from finesearch.plan import ADAPTATIONS, COSTS, OPTIMIZERS, PARAMETERS, TASK_KINDS, json_schema
from finesearch.plan.parsing.plan_reference import PAGE, plan_reference
from paths import ROOT

TEXT = plan_reference()


def keys(model: dict[str, Any], definitions: dict[str, Any], prefix: str = "") -> Iterator[str]:
    """Every key that the schema draws, but for what stands under ``space``; written without the page's own code."""
    for name, item in model.get("properties", {}).items():
        if f"{prefix}{name}" == "space":
            continue
        yield f"{prefix}{name}"
        for form in (item, item.get("items", {}), *item.get("anyOf", [])):
            inner = definitions[form["$ref"].split("/")[-1]] if "$ref" in form else form
            yield from keys(inner, definitions, f"{prefix}{name}{'[]' if form is item.get('items') else ''}.")


def test_the_page_that_is_checked_in_is_the_one_that_make_docs_writes() -> None:
    assert PAGE == ROOT / "docs" / "plan.md"
    assert PAGE.read_text(encoding="utf-8") == TEXT, "run `make docs` and commit docs/plan.md"


def test_every_key_of_a_plan_has_a_row() -> None:
    schema = json_schema()
    named = set(re.findall(r"^\| `([^`]+)` \|", TEXT, re.MULTILINE))
    wanted = set(keys(schema, schema["$defs"]))
    assert len(wanted) > 80
    assert wanted - named == set()
    assert PARAMETERS.keys() | ADAPTATIONS.keys() | OPTIMIZERS.keys() | TASK_KINDS.keys() | COSTS.keys() <= named


@pytest.mark.parametrize("branches", [ADAPTATIONS, OPTIMIZERS])
def test_every_parameter_of_a_branch_has_a_row(branches: dict[str, Any]) -> None:
    for name, branch in branches.items():
        for parameter in branch.parameters:
            assert f"| `{name}` | `{parameter}` |" in TEXT


def test_every_row_has_the_cells_of_its_head() -> None:
    for block in re.findall(r"(?:^\|.*\n)+", TEXT, re.MULTILINE):
        # A bar inside a cell is escaped.
        widths = {len(re.findall(r"(?<!\\)\|", line)) for line in block.splitlines()}
        assert len(widths) == 1, block
        assert "| --- |" in block
