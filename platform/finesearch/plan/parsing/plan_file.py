"""Loads a plan file into a plan; reports all of its problems at once."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from finesearch.errors import PlanError
from finesearch.plan.checks.compatibility import plan_problems
from finesearch.plan.checks.secret_check import secret_problems
from finesearch.plan.parsing.overrides import apply_overrides
from finesearch.plan.parsing.section_validation import validate
from finesearch.plan.parsing.yaml_lines import MAX_BYTES, read_yaml
from finesearch.plan.plan import Plan, name_problem
from finesearch.plan.problems import KeyPath, Problems, SourceLocations, did_you_mean, format_value
from finesearch.plan.sections.budget_section import BudgetPlan
from finesearch.plan.sections.report_section import ReportPlan
from finesearch.plan.sections.search_section import SearchPlan
from finesearch.plan.sections.study_url import study_problem
from finesearch.plan.sections.task_section import Section, TaskPlan
from finesearch.plan.sections.tracking_section import TrackingPlan
from finesearch.plan.sections.training_section import TrainingPlan
from finesearch.plan.space.parse_space import read_space

_OPTIONAL: dict[str, type[Section]] = {
    "training": TrainingPlan,
    "search": SearchPlan,
    "budget": BudgetPlan,
    "report": ReportPlan,
    "tracking": TrackingPlan,
}
_KEYS = ("name", "task", "space", *_OPTIONAL, "storage", "study", "base")
_SKETCH = "A plan has a name, a task and a space; search_spaces/quickstart.yaml is one to start from."


def load_plan(path: str | Path, overrides: Sequence[str] = (), name: str | None = None) -> Plan:
    """The plan in a file, with ``--set`` arguments applied and ``name`` instead of its own.

    Relative paths of data and model, in overrides too, start from the folder of the file.

    Raises:
        PlanError: the file cannot be read, or the plan in it has problems; the message lists all of them.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            # No more than is needed to see that it is too much: the path may be a device that never ends.
            text = file.read(4 * MAX_BYTES + 1).decode("utf-8-sig").replace("\r\n", "\n").replace("\r", "\n")
    except FileNotFoundError:
        there = sorted(item.name for item in path.parent.glob("*.y*ml")) if path.parent.is_dir() else []
        advice = did_you_mean(path.name, there, "Plans in that folder") or "There is no plan in that folder."
        raise PlanError(f"{path}: no such file.\n  {advice}") from None
    except UnicodeDecodeError as error:
        raise PlanError(
            f"{path}: expected UTF-8 text, got a byte that is none at {error.start}.\n  Save it as UTF-8."
        ) from None
    except ValueError as error:
        raise PlanError(f"{path}: no path: {error}.\n  Give the path of a YAML file.") from None
    except OSError as error:
        raise PlanError(f"{path}: cannot be read: {error.strerror}.\n  Give the path of a YAML file.") from None
    return parse_plan(text, source=str(path), overrides=overrides, name=name)


def parse_plan(text: str, source: str = "plan.yaml", overrides: Sequence[str] = (), name: str | None = None) -> Plan:
    """The plan in a text; ``source`` names the file for messages, and relative paths start from its folder.

    Raises:
        PlanError: the plan has problems; the message lists all of them.
    """
    problems = Problems()
    data, labels = read_yaml(text, source, problems)
    if not isinstance(data, Mapping):
        came = "an empty file" if data is None else format_value(data)
        problems.add((), f"expected a mapping of sections, got {came}", _SKETCH)
        problems.raise_if_any(SourceLocations(source, labels))
    laid, labels = apply_overrides(data, labels, overrides, problems)
    if name is not None:
        laid["name"] = name
        labels[("name",)] = f"--name {name}"
    folder = Path(source).parent.absolute()
    secret_problems(laid, problems)
    plan = _read(laid, folder, Path(source), problems)
    problems.raise_if_any(SourceLocations(source, labels))
    assert plan is not None
    return plan


def _read(data: Mapping[str, Any], folder: Path, source: Path, problems: Problems) -> Plan | None:
    """The plan, or None when something was added to ``problems``."""
    for key in data:
        if key not in _KEYS:
            problems.add((key,), f"unknown key '{key}' at the top of the plan", did_you_mean(key, _KEYS))
    if "name" not in data:
        problems.add(
            (), "'name' is missing: expected the name of the search", "Write 'name: my-search', or give --name."
        )
    elif (problem := name_problem(data["name"])) is not None:
        problems.add(problem.path, problem.text, problem.advice)
    if "task" not in data:
        problems.add((), "'task' is missing: expected a mapping", _SKETCH)
    task = validate(TaskPlan, data["task"], problems, ("task",)) if "task" in data else None
    space = read_space(data.get("space", "auto"), problems)
    sections = {
        # An empty section (for example, all of its keys commented out) keeps its defaults.
        key: validate(model, data[key] if data.get(key) is not None else {}, problems, (key,))
        for key, model in _OPTIONAL.items()
    }
    places = {key: _text(data, key, default, problems) for key, default in (("storage", "runs"), ("base", str(folder)))}
    study = data.get("study")
    if study is not None and (problem := study_problem(study)) is not None:
        problems.add(problem.path, problem.text, problem.advice)
    training, search, report = sections["training"], sections["search"], sections["report"]
    assert isinstance(training, TrainingPlan | None)
    assert isinstance(search, SearchPlan | None)
    assert isinstance(report, ReportPlan | None)
    plan_problems(task, space, training, search, report, problems)
    if problems.found or task is None or space is None:
        return None
    return Plan(
        name=data["name"],
        task=task,
        space=space,
        storage=places["storage"],
        study=study,
        base=folder / places["base"],
        source=source,
        **{key: section for key, section in sections.items() if section is not None},  # type: ignore[arg-type]
    )


def _text(data: Mapping[str, Any], key: str, default: str, problems: Problems) -> str:
    value = data.get(key, default)
    if isinstance(value, str) and value:
        return value
    path: KeyPath = (key,)
    noun = "a folder or a URI" if key == "storage" else "the folder that relative paths start from"
    problems.add(path, f"{key}: expected {noun}, got {format_value(value)}", f"Leave '{key}' out for its default.")
    return default
