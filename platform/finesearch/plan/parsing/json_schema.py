"""The JSON Schema of a plan file, for editors that complete and check YAML."""

from typing import Any

from finesearch.plan.plan import NAME_PATTERN
from finesearch.plan.sections.budget_section import BudgetPlan
from finesearch.plan.sections.report_section import ReportPlan
from finesearch.plan.sections.search_section import SearchPlan
from finesearch.plan.sections.study_url import URL_PATTERN
from finesearch.plan.sections.task_section import Section, TaskPlan
from finesearch.plan.sections.tracking_section import TrackingPlan
from finesearch.plan.sections.training_section import TrainingPlan
from finesearch.plan.space.branches import SELECTORS, Branch
from finesearch.plan.space.parameters import PARAMETERS, ParameterSpec

Schema = dict[str, Any]


def json_schema() -> Schema:
    """The schema (draft 2020-12) of a plan file.

    It has every key with its type, bounds, allowed words and description. Conditions on two keys at once (a range whose
    min is above its max, a sampler that does not support the space) are only checked when the plan is parsed.

    >>> sorted(json_schema()["required"])
    ['name', 'task']
    """
    definitions: Schema = {}
    models: dict[str, type[Section]] = {
        "task": TaskPlan,
        "training": TrainingPlan,
        "search": SearchPlan,
        "budget": BudgetPlan,
        "report": ReportPlan,
        "tracking": TrackingPlan,
    }
    sections: Schema = {}
    for key, model in models.items():
        schema = model.model_json_schema()
        definitions |= schema.pop("$defs", {})
        definitions[model.__name__] = schema
        reference: Schema = {"$ref": f"#/$defs/{model.__name__}"}
        for definition in [schema, *definitions.values()]:
            for item in definition["properties"].values():
                if item.get("default") in ("", []):
                    # An empty default means "not given"; a plan that spells it out would be refused.
                    del item["default"]
        # A section whose keys are all commented out is null, and keeps its defaults.
        sections[key] = reference if key == "task" else {"anyOf": [reference, {"type": "null"}]}
        sections[key]["description"] = schema["description"].split("\n")[0]
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "finesearch plan",
        "type": "object",
        "additionalProperties": False,
        "required": ["name", "task"],
        "properties": {
            "name": {
                "type": "string",
                "pattern": NAME_PATTERN,
                "description": "Name of the search, and of its folders below storage and reports.",
            },
            "task": sections.pop("task"),
            "space": _space(),
            **sections,
            "storage": {
                "type": "string",
                "minLength": 1,
                "default": "runs",
                "description": "Folder, or s3:// or gs:// URI, that holds runs.",
            },
            "study": {
                "type": ["string", "null"],
                "pattern": URL_PATTERN,
                "description": "URL of the PostgreSQL database that holds the study; default: SQLite.",
            },
            "base": {
                "type": "string",
                "minLength": 1,
                "description": "Folder that relative paths of data and model start from; default: this file's.",
            },
        },
        "$defs": definitions,
    }


def _space() -> Schema:
    properties: Schema = {name: _selector(name, branches) for name, branches in SELECTORS.items()}
    properties |= {name: _parameter(parameter) for name, parameter in PARAMETERS.items()}
    own = {"type": "object", "additionalProperties": False, "properties": properties}
    return {
        "description": "What is searched: a value is fixed, a list a choice, {min, max} a range, one_of has branches. "
        "auto: a space for the task, the model, the rows and the budget.",
        "default": "auto",
        "anyOf": [{"const": "auto"}, own],
    }


def _selector(name: str, branches: dict[str, Branch]) -> Schema:
    # A branch with required parameters cannot be written as a bare name.
    names = {"enum": [branch for branch, item in branches.items() if not item.required]}
    inner = {branch: _branch(item) for branch, item in branches.items()}
    one_of = {"type": "object", "additionalProperties": False, "minProperties": 1, "properties": inner}
    return {
        "description": f"{name.capitalize()}: one branch, a list of branches, or one_of with their own parameters.",
        "anyOf": [
            names,
            {"type": "array", "items": names, "minItems": 1},
            {"type": "object", "additionalProperties": False, "required": ["one_of"], "properties": {"one_of": one_of}},
        ],
    }


def _branch(branch: Branch) -> Schema:
    schema: Schema = {
        "type": "object" if branch.required else ["object", "null"],
        "description": branch.doc,
        "additionalProperties": False,
        "properties": {name: _parameter(parameter) for name, parameter in branch.known.items()},
    }
    return schema | ({"required": list(branch.required)} if branch.required else {})


def _parameter(parameter: ParameterSpec) -> Schema:
    value = _value(parameter)
    words: list[Schema] = [{"enum": list(parameter.words)}] if parameter.is_numeric and parameter.words else []
    if parameter.is_list:
        # A flat list is one value; a list of lists is a choice.
        items: Schema = {"type": "array", "items": value, "minItems": 1, "uniqueItems": True}
        choice = {"type": "array", "items": {"anyOf": [value, items]}, "minItems": 1, "uniqueItems": True}
        return {"description": parameter.doc, "anyOf": [value, items, choice]}
    others = [*words, *([{"type": "null"}] if parameter.nullable else [])]
    single = {"anyOf": [value, *others]} if others else value
    forms: list[Schema] = [single, {"type": "array", "items": single, "minItems": 1, "uniqueItems": True}]
    if parameter.is_numeric:
        properties = {
            "min": value | {"description": "Smallest value, included."},
            "max": value | {"description": "Largest value, included."},
            "log": {"type": "boolean", "default": False, "description": "Draw the logarithm evenly."},
            "step": {
                "type": value["type"],
                "exclusiveMinimum": 0,
                "description": "Distance between neighbouring values, counted from min.",
            },
        }
        forms.append(
            {"type": "object", "additionalProperties": False, "required": ["min", "max"], "properties": properties}
        )
    return {"description": parameter.doc, "anyOf": forms}


def _value(parameter: ParameterSpec) -> Schema:
    if parameter.kind == "word":
        return {"enum": list(parameter.words)}
    if parameter.kind == "text":
        return {"type": "string", "minLength": 1}
    if parameter.kind == "boolean":
        return {"type": "boolean"}
    if parameter.is_list:
        return {"type": "string", "pattern": r"\S"}
    schema: Schema = {"type": "integer" if parameter.kind == "integer" else "number"}
    if parameter.low > float("-inf"):
        schema["exclusiveMinimum" if parameter.open_low else "minimum"] = parameter.low
    if parameter.high < float("inf"):
        schema["exclusiveMaximum" if parameter.open_high else "maximum"] = parameter.high
    return schema
