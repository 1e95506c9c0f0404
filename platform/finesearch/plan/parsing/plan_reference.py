"""Generates docs/plan.md, the reference of every plan key, from the JSON Schema. ``make docs`` runs this file."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from finesearch.plan.parsing.json_schema import Schema, json_schema
from finesearch.plan.sections.task_kinds import COSTS, TASK_KINDS
from finesearch.plan.sections.training_section import TrainingPlan
from finesearch.plan.space.branches import DEFAULT_BRANCHES, SELECTORS, Branch
from finesearch.plan.space.parameters import PARAMETERS
from finesearch.plan.space.recipe import Recipe

PAGE = Path(__file__).parents[4] / "docs" / "plan.md"
HEADER = """# Plan files

`make docs` writes this page from the JSON Schema of plan files. Do not edit it by hand.

A plan file is YAML. `finesearch schema` prints the schema, and an editor can complete and check plan files with it.
`--set KEY=VALUE` overrides one key, for example `--set training.epochs=5`. Any other key is an error.
[Tasks](tasks.md) and [adaptations](adaptations.md) are explained on pages of their own.
"""


def plan_reference() -> str:
    """The whole page, in Markdown."""
    schema = json_schema()
    blocks = [HEADER, "## Top level\n", table("", schema, schema)]
    for key, item in schema["properties"].items():
        if key == "space":
            blocks += _space(item["description"])
        elif (model := section_of(item, schema)) is not None:
            blocks += [f"## `{key}`\n", paragraphs(model), table(key, model, schema)]
        if key == "task":
            blocks += ["### Kinds of task\n", _kinds()]
    blocks += ["## Costs\n", "`search.objectives` may name a metric of the task, or one of these costs.\n", _costs()]
    return "\n".join(blocks)


def section_of(item: Schema, schema: Schema) -> Schema | None:
    """The section in a property, alone, beside null, or in a list; None for a plain value.

    >>> sorted(section_of({"$ref": "#/$defs/A"}, {"$defs": {"A": {"properties": {}}}}))
    ['properties']
    """
    for form in (item, item.get("items", {}), *item.get("anyOf", ())):
        if "$ref" in form:
            section: Schema = schema["$defs"][form["$ref"].rpartition("/")[2]]
            return section
    return item if "properties" in item else None


def paragraphs(model: Schema) -> str:
    """A section's description."""
    return " ".join(model.get("description", "").replace("``", "`").split()) + "\n"


def table(prefix: str, model: Schema, schema: Schema) -> str:
    """One row a key; keys of inner sections follow the key of their section."""
    lines = ["| key | value | default | meaning |", "| --- | --- | --- | --- |"]
    return "\n".join([*lines, *_rows(prefix, model, schema, is_inner=bool(prefix))]) + "\n"


def _rows(prefix: str, model: Schema, schema: Schema, is_inner: bool) -> Iterator[str]:
    for name, item in model["properties"].items():
        key = f"{prefix}.{name}" if prefix else name
        default = "required" if name in model.get("required", ()) else _default(item)
        yield row(f"`{key}`", value(item, schema), default, item.get("description", ""))
        inner = section_of(item, schema)
        if is_inner and inner is not None:
            in_list = item.get("type") == "array"
            yield from _rows(f"{key}[]" if in_list else key, inner, schema, is_inner)


def row(*cells: str) -> str:
    """One line of a table."""
    return "| " + " | ".join(cell.replace("|", r"\|").replace("``", "`") for cell in cells) + " |"


def value(item: Schema, schema: Schema) -> str:
    """The values that a key allows, in words.

    >>> value({"type": "integer", "minimum": 1}, {})
    'whole number, at least 1'
    >>> value({"anyOf": [{"type": "string"}, {"type": "null"}]}, {})
    'text, or null'
    """
    if "enum" in item:
        return ", ".join(code(one) for one in item["enum"])
    if "const" in item:
        return code(item["const"])
    if "anyOf" in item:
        return ", or ".join(value(form, schema) for form in item["anyOf"])
    if "$ref" in item or "properties" in item:
        return "a section"
    kind = item.get("type")
    if isinstance(kind, list):
        return ", or ".join(value({"type": one}, schema) for one in kind)
    if kind == "array":
        return f"list of: {value(item.get('items', {}), schema)}"
    words = {"integer": "whole number", "number": "number", "string": "text", "boolean": "`true`, `false`"}
    return ", ".join([words.get(str(kind), "null" if kind == "null" else "mapping"), *_bounds(item)])


def _bounds(item: Schema) -> Iterator[str]:
    for bound, words in (
        ("minimum", "at least"),
        ("exclusiveMinimum", "above"),
        ("maximum", "at most"),
        ("exclusiveMaximum", "below"),
    ):
        if bound in item:
            limit = item[bound]
            yield f"{words} {limit if isinstance(limit, int) else format(limit, 'g')}"


def _default(item: Schema) -> str:
    if "default" not in item:
        return ""
    given = item["default"]
    return ", ".join(code(one) for one in given) if isinstance(given, list) else code(given)


def code(given: Any) -> str:
    """A value as a plan writes it, set as code; values that Markdown cannot show as code are quoted.

    >>> code(None), code("auto"), code("")
    ('`null`', '`auto`', '`""`')
    """
    is_word = isinstance(given, str) and given.strip() == given != ""
    return f"`{given if is_word else json.dumps(given)}`"


def _kinds() -> str:
    lines = ["| `task.kind` | meaning | columns | metrics, the default in bold | keys of `task` for this kind |"]
    lines.append("| --- | --- | --- | --- | --- |")
    for kind in TASK_KINDS.values():
        columns = [f"`{role}`" for role in kind.required_columns]
        if kind.column_choices:
            columns.append(" or ".join(" and ".join(f"`{role}`" for role in group) for group in kind.column_choices))
        columns += [f"`{role}` (optional)" for role in kind.optional_columns]
        metrics = _metrics(kind.metrics, kind.default_metric)
        for name, form in kind.forms.items():
            metrics += f"; with `form: {name}`: {_metrics(form.metrics, form.default_metric)}"
        options = ", ".join(f"`{name}`" for name in (*kind.options, *(["form"] if kind.forms else [])))
        lines.append(row(f"`{kind.kind}`", kind.doc, ", ".join(columns), metrics, options))
    return "\n".join(lines) + "\n"


def _metrics(metrics: dict[str, Any], default: str) -> str:
    return ", ".join(f"**{name}**" if name == default else name for name in metrics)


def _costs() -> str:
    lines = ["| cost | meaning |", "| --- | --- |", *(row(f"`{name}`", doc) for name, doc in COSTS.items())]
    return "\n".join(lines) + "\n"


def _space(description: str) -> Iterator[str]:
    yield "## `space`\n"
    yield f"{description}\n"
    yield "| form | example | meaning |\n| --- | --- | --- |"
    yield row("value", "`epochs: 3`", "The parameter is fixed.")
    yield row("list", "`dropout: [0.0, 0.1]`", "The search chooses one value of the list.")
    yield row("range", "`learning_rate: {min: 1e-6, max: 1e-3, log: true}`", "The search draws from min to max.")
    yield row("range with steps", "`layers: {min: 0, max: 6, step: 2}`", "Values have this distance from each other.")
    yield row("branches", "`adaptation: {one_of: {full: {}, lora: {rank: [4, 8]}}}`", "A branch has own parameters.")
    yield "\n### Parameters\n"
    yield "A parameter may also stand inside a branch. It then replaces the value at the top in that branch.\n"
    yield "| parameter | value | default | meaning |\n| --- | --- | --- | --- |"
    for name, parameter in PARAMETERS.items():
        # The section `training` has some of them as well, and the space only replaces those.
        is_plan_key = name in TrainingPlan.model_fields
        default = f"`training.{name}`" if is_plan_key else code(Recipe.model_fields[name].default)
        yield row(f"`{name}`", parameter.expected, default, parameter.doc)
    for selector, branches in SELECTORS.items():
        yield f"\n### `{selector}`\n"
        yield f"Default: `{DEFAULT_BRANCHES[selector]}`.\n"
        yield "| branch | own parameter | value | default | meaning |\n| --- | --- | --- | --- | --- |"
        for branch in branches.values():
            yield from _branch(branch)
    yield ""


def _branch(branch: Branch) -> Iterator[str]:
    yield row(f"`{branch.name}`", "", "", "", branch.doc)
    for name, parameter in branch.parameters.items():
        default = "required" if name in branch.required else code(branch.defaults[name])
        yield row(f"`{branch.name}`", f"`{name}`", parameter.expected, default, parameter.doc)


if __name__ == "__main__":
    PAGE.write_text(plan_reference(), encoding="utf-8")
