from typing import Any

import pytest
from pydantic import ValidationError

from finesearch.errors import PlanError
from finesearch.plan import DataPlan, Objective, Plan, TaskPlan, parse_space
from plan_examples import BRANCHED, changed, made, refusal

RANGES = {"learning_rate": {"min": 1e-5, "max": 1e-3, "log": True}, "dropout": {"min": 0.0, "max": 0.3}}
CHOICES = {
    "learning_rate": [1e-5, 1e-4],
    "epochs": {"min": 1, "max": 3},
    "dropout": {"min": 0, "max": 0.2, "step": 0.1},
}
ONE_BRANCH = RANGES | {"adaptation": {"one_of": {"freeze_bottom": {"layers": {"min": 1, "max": 3}}}}}
ACCURACY, SIZE = {"metric": "accuracy"}, {"metric": "trainable_parameters"}


@pytest.mark.parametrize(
    ("sampler", "space"),
    [
        *((sampler, RANGES) for sampler in ("tpe", "random", "gp", "cmaes", "qmc")),
        *((sampler, ONE_BRANCH) for sampler in ("tpe", "random", "gp", "cmaes", "qmc")),
        *((sampler, CHOICES) for sampler in ("tpe", "random", "gp", "grid")),
        *((sampler, BRANCHED) for sampler in ("tpe", "random")),
    ],
)
def test_samplers_take_these_spaces(sampler: str, space: dict[str, Any]) -> None:
    assert made(space=space, search__sampler=sampler).search.sampler == sampler


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"space": BRANCHED, "search__sampler": "gp"},
            "search.sampler: gp takes no conditional parameters, got adaptation.freeze_"
            "bottom.layers, adaptation.head_only.learning_rate, learning_rate, dropout.\n  Use tpe or random",
        ),
        (
            {"space": BRANCHED, "search__sampler": "qmc"},
            "search.sampler: qmc takes no choices, got adaptation.\n  Use tpe, random",
        ),
        ({"space": BRANCHED, "search__sampler": "cmaes"}, "search.sampler: cmaes takes no conditional parameters"),
        ({"space": CHOICES, "search__sampler": "cmaes"}, "search.sampler: cmaes takes no choices, got learning_rate."),
        (
            {"space": RANGES, "search__sampler": "grid"},
            "search.sampler: grid needs lists or ranges with a step, got plain ranges: "
            "learning_rate, dropout.\n  Give each a list of values or a step, or use another sampler.",
        ),
        ({"space": BRANCHED, "search__sampler": "grid"}, "search.sampler: grid takes no conditional parameters"),
        (
            {"search__objectives": [ACCURACY, SIZE]},
            "search.pruner: several objectives need the pruner none, got successive_halving.",
        ),
        (
            {"search__objectives": [ACCURACY, SIZE], "search__pruner": "none", "search__sampler": "cmaes"},
            "cmaes optimises one",
        ),
        (
            {"search__objectives": [SIZE]},
            "search.objectives.0: expected the task's metric 'accuracy' first, got 'trainable_",
        ),
        (
            {"task__form": "regression", "task__metric": "accuracy"},
            "task.metric: unknown metric 'accuracy' of text-classification, form regression.\n  Known here: pearson",
        ),
        (
            {"task__form": "multilabel", "task__metric": "micro_f1"},
            "task.form: unknown form 'multilabel' of text-classification.\n  Did you mean 'multi-label'?",
        ),
        (
            {"search__objectives": [{"metric": "acuracy"}]},
            "search.objectives.0: unknown metric 'acuracy'.\n  Did you mean",
        ),
        (
            {"search__objectives": [ACCURACY, ACCURACY], "search__pruner": "none"},
            "search.objectives.1: 'accuracy' stands twice.",
        ),
        (
            {"search__objectives": [ACCURACY | {"goal": "min"}]},
            "accuracy is better as max, got goal min.\n  Leave the goal out.",
        ),
        (
            {"search__first": [{"learning_rate": 1.0}]},
            "search.first.0.learning_rate: expected from 1e-05 to 0.001, got 1.0.",
        ),
        (
            {"space": {"batch_size": [16, 30]}, "training__gradient_accumulation_steps": 4},
            "space.batch_size: expected multiples of "
            "4 (training.workers_per_trial × gradient_accumulation_steps), got 30.\n  Choose among multiples",
        ),
        (
            {"space": {"optimizer": ["adamw", "adafactor"]}, "training__zero_stage": 1},
            "space.optimizer: adafactor: expected training.zero_stage 0, got 1: its moments are factored by rows and "
            "columns, and ZeRO 1 to 3 flatten all matrices into one.\n  Set training.zero_stage to 0, or leave it out",
        ),
        (
            {
                "space": {"mixout": {"min": 0.0, "max": 0.9}},
                "training__zero_stage": 3,
                "training__workers_per_trial": 2,
            },
            "space.mixout: expected a training.zero_stage up to 2, got 3: it needs whole weights on every worker",
        ),
        (
            {"space": {"layer_drop": [0.0, 0.1]}, "training__zero_stage": 3},
            "space.layer_drop: expected a training.zero_stage up to 2, got 3: ZeRO 3 fetches weights in the order of",
        ),
        (
            {"space": {"ema_decay": [None, 0.99], "swa_start": [None, 0.5]}},
            "space.swa_start: both it and ema_decay average the weights.\n  Keep one of them, or give each to other",
        ),
        (
            {"space": {"adaptation": {"one_of": {"full": {"ema_decay": 0.9}, "head_only": {}}}, "swa_start": 0.5}},
            "space.swa_start: both it and adaptation.full.ema_decay average the weights.",
        ),
        ({"space": {"batch_size": {"min": 8, "max": 32}}, "training__workers_per_trial": 2}, "expected multiples of 2"),
    ],
)
def test_what_does_not_go_together_is_refused_when_the_plan_is_read(change: dict[str, Any], message: str) -> None:
    assert message in refusal(changed(**change))


def test_a_first_configuration_is_refused_at_its_line() -> None:
    text = made().to_yaml().replace("first: []", "first:\n  - learning_rate: 1e-4\n  - learning_rate: 1.0")
    line = 1 + text.splitlines().index("  - learning_rate: 1.0")
    assert refusal(text).startswith(f"plan.yaml, line {line}: search.first.1.learning_rate")


def test_the_task_metric_is_the_objective_unless_objectives_are_listed() -> None:
    assert made(task__metric="mcc").objectives == (Objective(name="mcc", goal="max"),)
    both = made(search__objectives=[ACCURACY, SIZE], search__pruner="none").objectives
    assert both == (Objective(name="accuracy", goal="max"), Objective(name="trainable_parameters", goal="min"))


def test_what_zero_rules_out_may_stand_in_the_space_while_it_is_off() -> None:
    space = {"mixout": 0.0, "swa_start": None, "optimizer": "lion", "rdrop": [0.0, 1.0]}
    assert made(space=space, training__zero_stage=3, training__workers_per_trial=2).training.zero_stage == 3


def test_each_average_may_have_a_branch_of_its_own() -> None:
    branches = {"full": {"ema_decay": [0.9, 0.99]}, "head_only": {"swa_start": 0.5}}
    assert len(made(space={"adaptation": {"one_of": branches}}).space) == 2


def test_batch_sizes_that_divide_are_taken() -> None:
    space = {"batch_size": {"min": 8, "max": 32, "step": 8}}
    assert len(made(space=space, training__workers_per_trial=4).space) == 1


def test_a_plan_made_in_python_is_checked_as_one_from_a_file() -> None:
    task = TaskPlan(
        kind="text-classification", model="m", data=DataPlan(train=("a.csv",)), columns={"text": "t", "label": "l"}
    )
    assert task.metric == "accuracy"
    assert TaskPlan.model_validate_json(task.model_dump_json()) == task
    assert Plan(name="a", task=task, space=parse_space(RANGES)).budget.trials == 24
    with pytest.raises(PlanError, match="grid needs lists"):
        Plan.model_validate({"name": "a", "task": task, "space": RANGES, "search": {"sampler": "grid"}})
    with pytest.raises(ValidationError, match="name: expected letters"):
        Plan(name="a/b", task=task, space=parse_space(RANGES))
    with pytest.raises(ValidationError, match="text-classification needs 'label'"):
        TaskPlan(kind="text-classification", model="m", data=DataPlan(train=("a.csv",)), columns={"text": "t"})


@pytest.mark.parametrize(
    ("data", "source"),
    [
        ({"train": "a.csv", "test": ["b.csv", "c.csv"]}, "files"),
        ({"folder": "x"}, "folder"),
        ({"hub": "glue", "config": "sst2"}, "hub"),
        ({"builtin": "standard-library-docstrings"}, "builtin"),
    ],
)
def test_data_has_one_source(data: dict[str, Any], source: str) -> None:
    assert made(task__data=data).task.data.source == source


@pytest.mark.parametrize(
    ("form", "resolved", "metric"),
    [
        (None, "single-label", "accuracy"),
        ("single-label", "single-label", "accuracy"),
        ("multi-label", "multi-label", "micro_f1"),
        ("regression", "regression", "pearson"),
    ],
)
def test_each_form_of_the_labels_has_metrics_of_its_own(form: str | None, resolved: str, metric: str) -> None:
    plan = made(task__form=form)
    assert (plan.task.form, plan.task.metric, plan.to_plain()["task"]["form"]) == (resolved, metric, resolved)
    assert plan.objectives == (Objective(name=metric, goal="max"),)


def test_files_are_grouped_by_split() -> None:
    data = made(task__data={"train": "a.csv", "test": ["b.csv", "c.csv"]}).task.data
    assert data.files == {"train": ("a.csv",), "test": ("b.csv", "c.csv")}
