"""Validates plain data against a section's model; turns pydantic's errors into readable problems."""

from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from finesearch.plan.problems import PROBLEMS_ERROR_TYPE, KeyPath, Problems, did_you_mean, dotted, format_value

Model = TypeVar("Model", bound=BaseModel)


def validate(model: type[Model], raw: Any, problems: Problems, path: KeyPath) -> Model | None:
    """The section, or None when something was added to ``problems``."""
    if isinstance(raw, model):
        return raw
    if not isinstance(raw, Mapping):
        advice = f"Known here: {', '.join(model.model_fields)}."
        problems.add(path, f"{dotted(path)}: expected a mapping, got {format_value(raw)}", advice)
        return None
    try:
        return model.model_validate(raw)
    except ValidationError as error:
        for detail in error.errors():
            location = detail["loc"]
            if detail["type"] == PROBLEMS_ERROR_TYPE:
                # Paths of a field's own check start at the model of the field.
                for problem in detail["ctx"]["problems"]:
                    found = problem.below((*path, *location[:-1]))
                    problems.add(found.path, found.text, found.advice)
            else:
                _translate(model, raw, location, detail["type"], problems, path)
        return None


def _translate(
    model: type[BaseModel], raw: Mapping[str, Any], location: KeyPath, kind: str, problems: Problems, path: KeyPath
) -> None:
    """Add the problem of one pydantic error, worded by what the model's JSON Schema expects there."""
    whole = model.model_json_schema()
    schema, keys = _schema_at(whole, location)
    known = list(schema.get("properties", {}))
    value, at = _value(raw, location)
    where = (*path, *at)
    about = str(schema.get("description", ""))
    if kind == "extra_forbidden":
        text = f"unknown key '{location[-1]}' in {dotted((*path, *location[:-1]))}"
        problems.add(where, text, did_you_mean(location[-1], keys))
    elif kind == "missing":
        text = f"'{location[-1]}' is missing in {dotted((*path, *location[:-1]))}: expected {describe_schema(schema)}"
        problems.add(where, text, f"Write '{location[-1]}: …'. {about}".strip())
    else:
        expected = "a mapping" if known else describe_schema(schema)
        problems.add(
            where, f"{dotted(where)}: expected {expected}, got {format_value(value)}", _advice(schema, value, known)
        )


def _advice(schema: Mapping[str, Any], value: Any, known: list[str]) -> str:
    if known:
        return f"Known here: {', '.join(known)}."
    words = schema.get("enum", [])
    nearest = did_you_mean(value, words) if isinstance(value, str) else ""
    if nearest.startswith("Did you mean"):
        return nearest
    # An empty text means "not given", which is no value to suggest.
    default = schema.get("default")
    fallback = (
        f" Leave it out for {format_value(default)}."
        if default not in (None, "") and not isinstance(default, list)
        else ""
    )
    return f"{schema.get('description', '')}{fallback}".strip()


def _schema_at(whole: dict[str, Any], location: KeyPath) -> tuple[dict[str, Any], list[str]]:
    """The schema of the deepest property on the way to ``location``, and the properties beside its last key."""
    schema, beside = whole, list(whole.get("properties", {}))
    for part in location:
        schema = _resolve_ref(schema, whole)
        if part in schema.get("properties", {}):
            schema = schema["properties"][part]
        elif isinstance(part, int) and (lists := [one for one in _forms(schema) if "items" in one]):
            about = schema.get("description", "")
            schema = {"description": about} | _resolve_ref(lists[0]["items"], whole)
        beside = list(_resolve_ref(schema, whole).get("properties", {})) or beside
    return _resolve_ref(schema, whole), beside


def _forms(schema: dict[str, Any]) -> list[dict[str, Any]]:
    return [schema, *schema.get("anyOf", [])]


def _resolve_ref(schema: dict[str, Any], whole: dict[str, Any]) -> dict[str, Any]:
    if "$ref" not in schema:
        # An optional section: its own keys are what the message must name.
        sections = [form for form in schema.get("anyOf", []) if "$ref" in form]
        if len(sections) != 1:
            return schema
        schema = {key: value for key, value in schema.items() if key != "anyOf"} | sections[0]
    target: dict[str, Any] = whole["$defs"][schema["$ref"].removeprefix("#/$defs/")]
    return target | {key: value for key, value in schema.items() if key != "$ref"}


def _value(raw: Any, location: KeyPath) -> tuple[Any, KeyPath]:
    """The value at ``location``, and the part of it that exists: pydantic appends names of union members."""
    at: list[str | int] = []
    for part in location:
        is_there = part in raw if isinstance(raw, Mapping) else isinstance(raw, list) and part in range(len(raw))
        if not is_there:
            break
        raw = raw[part]
        at.append(part)
    return raw, tuple(at)


def describe_schema(schema: Mapping[str, Any]) -> str:
    """The values that a JSON Schema accepts, in words.

    >>> describe_schema({"anyOf": [{"type": "integer", "minimum": 1}, {"type": "null"}]})
    'a whole number of at least 1, or null'
    """
    if "anyOf" in schema:
        *first, last = (describe_schema(item) for item in schema["anyOf"])
        return f"{', '.join(first)}, or {last}"
    if "enum" in schema:
        return f"one of {', '.join(map(str, schema['enum']))}"
    if "const" in schema:
        return f"'{schema['const']}'"
    if schema.get("type") == "array":
        return f"a list, each {describe_schema(schema.get('items', {}))}"
    nouns = {
        "integer": "a whole number",
        "number": "a number",
        "string": "text",
        "boolean": "true or false",
        "null": "null",
        "object": "a mapping",
    }
    words = {
        "minimum": "of at least",
        "exclusiveMinimum": "above",
        "maximum": "of at most",
        "exclusiveMaximum": "below",
    }
    bounds = " and ".join(f"{word} {schema[key]:g}" for key, word in words.items() if key in schema)
    return f"{nouns.get(schema.get('type', ''), 'a value')} {bounds}".strip()
