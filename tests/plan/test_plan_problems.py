"""Every message with which a section is refused."""

from pathlib import Path
from typing import Any

import pytest

from finesearch.errors import PlanError
from finesearch.plan import TASK_KINDS, load_plan, parse_plan
from plan_examples import BRANCHED, changed, made, refusal

CASES: list[tuple[dict[str, Any], str]] = [
    # the top
    ({"tsk": 3}, "unknown key 'tsk' at the top of the plan.\n  Did you mean 'task'? Known here: name, task, space,"),
    ({"name": None}, "'name' is missing: expected the name of the search.\n  Write 'name: my-search', or give --name."),
    ({"name": "a/b"}, "name: expected letters, digits, '.', '_' and '-', starting with a letter or digit, got 'a/b'."),
    ({"name": ".."}, "got '..'.\n  The name becomes a folder below storage and reports; at most 100 characters."),
    ({"name": 3}, "starting with a letter or digit, got 3."),
    ({"task": None}, "'task' is missing: expected a mapping."),
    ({"task": "x"}, "task: expected a mapping, got 'x'.\n  Known here: kind, model,"),
    ({"training": [1]}, "training: expected a mapping, got a list of 1."),
    ({"storage": 3}, "storage: expected a folder or a URI, got 3.\n  Leave 'storage' out for its default."),
    ({"base": ""}, "base: expected the folder that relative paths start from, got ''."),
    # the task
    (
        {"task__kind": "text-clasification"},
        "task.kind: unknown kind of task 'text-clasification'.\n  Did you mean 'text-",
    ),
    ({"task__kind": 3}, f"task.kind: expected one of {', '.join(sorted(TASK_KINDS))}, got 3."),
    (
        {"task__model": None},
        "'model' is missing in task: expected text.\n  Write 'model: …'. Hub id, folder, or package",
    ),
    ({"task__model": ""}, "task.model: expected text, got ''."),
    ({"task__modle": "x"}, "unknown key 'modle' in task.\n  Did you mean 'model'?"),
    ({"task__max_length": "many"}, "task.max_length: expected a whole number of at least 4, got 'many'."),
    ({"task__max_length": 12.0}, "task.max_length: expected a whole number of at least 4, got 12.0."),
    ({"task__max_length": True}, "task.max_length: expected a whole number of at least 4, got true."),
    ({"task__columns": {"text": "a"}}, "task.columns: text-classification needs 'label': the name of a column"),
    ({"task__columns__txt": "b"}, "unknown column role 'txt' of text-classification.\n  Did you mean 'text'?"),
    (
        {"task__columns__label": 5},
        "task.columns.label: expected text, or a list, each text, got 5.\n  Name of the column that holds the label",
    ),
    ({"task__columns__label": "text"}, "task.columns: 'text' and 'label' are both the column 'text'."),
    ({"task__columns": ["a"]}, "task.columns: expected a mapping, got a list of 1."),
    (
        {"task__metric": "acuracy"},
        "task.metric: unknown metric 'acuracy' of text-classification.\n  Did you mean 'accuracy'?",
    ),
    (
        {"task__prefix": "a: "},
        "task.prefix: text-classification has no such option.\n  Remove it: it belongs to",
    ),
    (
        {
            "task__kind": "translation",
            "task__columns": {"source": "a", "target": "b"},
            "task__generation": {"beems": 2},
        },
        "unknown key 'beems' in task.generation.\n  Did you mean 'beams'?",
    ),
    (
        {
            "task__kind": "translation",
            "task__columns": {"source": "a", "target": "b"},
            "task__generation": {"beams": 0},
        },
        "task.generation.beams: expected a whole number of at least 1, got 0.\n  Beams of the beam search; 1 is none.",
    ),
    # the data
    ({"task__data": {}}, "task.data: expected a source of rows, got none.\n  Give train (a file), folder, hub, or"),
    ({"task__data": {"train": []}}, "task.data: expected a source of rows, got none."),
    ({"task__data": {"train": [3]}}, "task.data.train.0: expected text, got 3."),
    ({"task__data": {"train": 3}}, "task.data.train: expected text, or a list, each text, got 3."),
    (
        {"task__data": {"train": "a.csv", "hub": "x"}},
        "task.data: expected one source, got train and hub.\n  Keep one of",
    ),
    ({"task__data": {"test": "a.csv"}}, "task.data: 'test' is given without 'train'.\n  Give 'train' too."),
    ({"task__data": {"builtin": "docstrings"}}, "task.data.builtin: expected 'standard-library-docstrings', or null,"),
    (
        {"task__data__config": "x"},
        "task.data: 'config' belongs to a hub data set, and no 'hub' is given.\n  Remove 'config'",
    ),
    (
        {"task__data__format": "xls"},
        "task.data.format: expected one of auto, csv, jsonl, json, parquet, arrow, got 'xls'.",
    ),
    (
        {"task__data__test_fraction": 0.95},
        "validation_fraction 0.1 and test_fraction 0.95 leave no rows to train on.\n",
    ),
    ({"task__data__test_fraction": 1.5}, "task.data.test_fraction: expected a number above 0 and below 1, got 1.5."),
    # training
    (
        {"training__epochs": "3"},
        "training.epochs: expected a whole number of at least 1, or 'auto', got '3'.\n  Passes",
    ),
    ({"training__epochs": 0}, "enough for 300 optimizer steps, 3 to 20. Leave it out for 'auto'."),
    (
        {"training__precision": "fp16"},
        "training.precision: expected one of auto, fp32, bf16, got 'fp16'.\n  Did you mean",
    ),
    (
        {"training__zero_stage": 4},
        "training.zero_stage: expected a whole number of at least 0 and of at most 3, got 4.",
    ),
    (
        {"training__workers_per_trial": 3},
        "training.batch_size: expected a multiple of 3 (workers_per_trial 3 × "
        "gradient_accumulation_steps 1), got 32.\n  It counts over all workers: take 30 or 33.",
    ),
    ({"training__hang_timeout_s": float("inf")}, "training.hang_timeout_s: expected a number above 0, got .inf."),
    # search
    (
        {"search__pruner": "medain"},
        "search.pruner: expected one of none, median, successive_halving, hyperband, got 'medain'."
        "\n  Did you mean 'median'?",
    ),
    (
        {"search__concurrent_trials": "all"},
        "search.concurrent_trials: expected 'auto', or a whole number of at least 1, got",
    ),
    ({"search__first": {"a": 1}}, "search.first: expected a list, each a mapping, got a mapping (a)."),
    ({"search__first": [3]}, "search.first.0: expected a mapping, got 3."),
    (
        {"search__objectives": ["accuracy"]},
        "search.objectives.0: expected a mapping, got 'accuracy'.\n  Known here: metric,",
    ),
    ({"search__objectives": [{"goal": "max"}]}, "'metric' is missing in search.objectives.0: expected text."),
    (
        {"search__objectives": [{"metric": "accuracy", "gaol": "max"}]},
        "unknown key 'gaol' in search.objectives.0.\n  Did you",
    ),
    ({"search__seed": -1}, "search.seed: expected a whole number of at least 0 and of at most 4.29497e+09, got -1."),
    # budget, report
    ({"budget__hours": 0}, "budget.hours: expected a number above 0, or null, got 0."),
    ({"budget__trails": 3}, "unknown key 'trails' in budget.\n  Did you mean 'trials'?"),
    (
        {"report__baselines": "majority"},
        "report.baselines: expected a list, each one of majority, floors, tfidf, dictionary, crf, best_sentence, copy, "
        "nearest, lead, bm25, zero_shot, strong, ordinary, got 'majority'.",
    ),
    (
        {"report__baselines": ["majorty"]},
        "got 'majorty'.\n  Did you mean 'majority'?",
    ),
    (
        {"report__baselines": ["majority", "crf"]},
        "report.baselines.1: text-classification has no baseline crf.\n  It has tfidf; 'floors' stands for all that a "
        "task has.",
    ),
    # the space
    (
        {"space": [1]},
        "space: expected auto or a mapping of parameters, got a list of 1.\n  Write what is searched below it",
    ),
    (
        {"space": {"learning_rte": 1e-5}},
        "unknown parameter 'learning_rte'.\n  Did you mean 'learning_rate'? Known here:",
    ),
    (
        {"space": {"layers": 3}},
        "'layers' does not stand at the top of the space.\n  It belongs to a branch: 'adaptation:",
    ),
    (
        {"space": {"dropout": 1.0}},
        "space.dropout: expected a number of at least 0 and below 1, or null, got 1.0.\n  Write one",
    ),
    ({"space": {"dropout": "low"}}, "space.dropout: expected a number of at least 0 and below 1, or null, got 'low'."),
    ({"space": {"learning_rate": True}}, "space.learning_rate: expected a number above 0, got true."),
    (
        {"space": {"schedule": "cosin"}},
        "space.schedule: expected one of constant, linear, cosine, got 'cosin'.\n  Write one",
    ),
    ({"space": {"schedule": {"min": 1, "max": 2}}}, "Only numbers have ranges; write a list to choose from."),
    ({"space": {"dropout": []}}, "space.dropout: expected a list of at least one value, got an empty list."),
    ({"space": {"dropout": [0.1, 2]}}, "space.dropout.1: expected a number of at least 0 and below 1, or null, got 2."),
    ({"space": {"dropout": [0, 0.0]}}, "space.dropout.1: 0.0 stands twice in this list.\n  Keep one of them."),
    (
        {"space": {"dropout": {"min": 0.1}}},
        "space.dropout: a range needs 'max': a number of at least 0 and below 1.\n  Write",
    ),
    (
        {"space": {"dropout": {"min": 0, "max": 1}}},
        "space.dropout.max: expected a number of at least 0 and below 1, got 1.",
    ),
    ({"space": {"dropout": {"min": 0, "max": 0.5, "mx": 0.5}}}, "unknown key 'mx' of a range.\n  Did you mean 'max'?"),
    ({"space": {"dropout": {"one_of": {}}}}, "space.dropout: 'one_of' stands only under adaptation and optimizer."),
    (
        {"space": {"dropout": {"min": 0.3, "max": 0.1}}},
        "the range is empty: min 0.3 is not below max 0.1.\n  Swap them.",
    ),
    ({"space": {"dropout": {"min": 0.3, "max": 0.3}}}, "is not below max 0.3.\n  Write 'dropout: 0.3' for one value."),
    (
        {"space": {"weight_decay": {"min": 0, "max": 1, "log": True}}},
        "space.weight_decay: a log range needs a min above 0,",
    ),
    (
        {"space": {"weight_decay": {"min": 0.1, "max": 1, "log": 3}}},
        "space.weight_decay.log: expected true or false, got 3.",
    ),
    (
        {"space": {"weight_decay": {"min": 0.1, "max": 1.1, "log": True, "step": 0.1}}},
        "'log' and 'step' do not go together.",
    ),
    (
        {"space": {"dropout": {"min": 0, "max": 0.3, "step": 0.2}}},
        "max 0.3 is not min 0.0 plus a whole number of steps of",
    ),
    (
        {"space": {"dropout": {"min": 0, "max": 0.3, "step": -1}}},
        "space.dropout.step: expected a number above 0, got -1.",
    ),
    (
        {"space": {"epochs": {"min": 1, "max": 3, "step": 0.5}}},
        "space.epochs.step: expected a whole number above 0, got 0.5",
    ),
    (
        {"space": {"epochs": {"min": 1, "max": 3.5}}},
        "space.epochs.max: expected a whole number of at least 1, got 3.5.",
    ),
    # branches
    (
        {"space": {"adaptation": 3}},
        "space.adaptation: expected the name of a branch, a list of names or {one_of: {branch: {…}}}",
    ),
    (
        {"space": {"adaptation": {"full": {}}}},
        "got a mapping (full).\n  Write e.g. 'adaptation: {one_of: {full: {}}}'.",
    ),
    ({"space": {"adaptation": {"one_of": {}}}}, "space.adaptation: expected the name of a branch"),
    (
        {"space": {"adaptation": {"one_of": {"lorra": {}}}}},
        "unknown branch 'lorra' of adaptation.\n  Did you mean 'lora'? Known here: full, freeze_",
    ),
    ({"space": {"adaptation": "head-only"}}, "unknown branch 'head-only' of adaptation.\n  Did you mean 'head_only'?"),
    (
        {"space": {"adaptation": ["full", "freeze_bottom"]}},
        "the branch 'freeze_bottom' needs 'layers': a whole number of at",
    ),
    (
        {"space": {"adaptation": {"one_of": {"full": 3}}}},
        "space.adaptation.one_of.full: expected a mapping of the branch's",
    ),
    ({"space": {"adaptation": {"one_of": {"full": {"lr": 3}}}}}, "unknown parameter 'lr' of the branch 'full'.\n  "),
    (
        {"space": {"adaptation": {"one_of": {"head_only": {"dropout": 0.1}}}}},
        "'dropout' has no effect under adaptation head_only.\n  Remove it from this branch.",
    ),
    (
        {"space": {"adaptation": {"one_of": {"freeze_bottom": {"layers": -1}}}}},
        "layers: expected a whole number of at least 0",
    ),
    (
        {"space": {"optimizer": {"one_of": {"sgd": {"momentum": [0.0, 0.9], "nesterov": True}}}}},
        "nesterov needs a momentum "
        "above 0, and this space holds momentum 0.\n  Give momentum a range or a list without 0, or drop nesterov.",
    ),
    (
        {
            "space": {
                "adaptation": {"one_of": {"full": {"learning_rate": 1e-4}}},
                "optimizer": {"one_of": {"sgd": {"learning_rate": 1e-2}}},
            }
        },
        "'learning_rate' stands in branches of both adaptation and optimizer.\n  Keep it in the branches of one",
    ),
]


@pytest.mark.parametrize(("change", "message"), CASES, ids=[message[:60] for _, message in CASES])
def test_a_wrong_plan_is_refused_with_what_to_do(change: dict[str, Any], message: str) -> None:
    said = refusal(changed(**change))
    assert message in said
    assert said.startswith("plan.yaml")
    assert said.count("\nplan.yaml") == 0, f"one mistake, more than one problem:\n{said}"


def test_the_minimal_plan_has_no_problem_and_no_warning() -> None:
    assert made().warnings == ()


def test_every_problem_is_told_at_once_in_the_order_of_the_file() -> None:
    said = refusal(
        """name: probe
task:
  kind: text-classification
  modle: x
  data: {builtin: standard-library-docstrings}
  columns: {text: text, label: label}
  max_length: many
space:
  learning_rte: 1e-5
  dropout: {min: 0.5, max: 0.1}
training:
  epochs: 0
  precision: fp16
search: {pruner: medain}
"""
    )
    places = [line.split(":")[0] for line in said.splitlines() if line.startswith("plan.yaml")]
    assert places == [f"plan.yaml, line {line}" for line in (2, 4, 7, 9, 10, 12, 13, 14)]


def test_an_empty_optional_section_keeps_its_defaults() -> None:
    text = """name: probe
task:
  kind: text-classification
  model: m
  data: {train: a.csv}
  columns: {text: text, label: label}
space: {}
training:
  # epochs: 3
"""
    assert parse_plan(text).training.epochs == "auto"


def test_a_missing_file_names_the_plans_beside_it(tmp_path: Path) -> None:
    (tmp_path / "sst2.yaml").write_text("name: x")
    with pytest.raises(PlanError, match="sst.yaml: no such file.\n  Did you mean 'sst2.yaml'"):
        load_plan(tmp_path / "sst.yaml")


def test_a_folder_and_other_bytes_are_no_plans(tmp_path: Path) -> None:
    with pytest.raises(PlanError, match="cannot be read: Is a directory"):
        load_plan(tmp_path)
    (tmp_path / "a.yaml").write_bytes(b"name: \xff\xfe")
    with pytest.raises(PlanError, match=r"a.yaml: expected UTF-8 text, got a byte that is none at 6."):
        load_plan(tmp_path / "a.yaml")


def test_a_byte_order_mark_is_no_problem(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(made(space=BRANCHED).to_yaml(), encoding="utf-8-sig")
    assert load_plan(tmp_path / "a.yaml").name == "probe"
