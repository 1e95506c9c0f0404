"""The strong recipe: what it is, and that the search tries it first where its space holds it."""

from __future__ import annotations

from pathlib import Path

import pytest

from finesearch.plan import Plan, Recipe
from finesearch.plan.auto_choices import PlanFacts
from finesearch.plan.space.strong_recipe import configuration_of, strong_recipe
from finesearch.run.final_scoring import baseline_score_name
from finesearch.run.open_search import open_search_controller
from finesearch.tuning.controller.search_controller import BASELINES, SEARCH, SearchController
from finesearch.tuning.messages import Job
from plans import empty_plan
from trial_reports import completed, evaluation

SMALL = PlanFacts(rows=562, num_layers=6, parameters=22_700_000)
HOLDS_IT = (
    "{learning_rate: {min: 1e-5, max: 1e-3, log: true}, warmup_fraction: {min: 0.0, max: 0.2}, weight_decay: 0.01, "
    "head_init: [probe, random], epochs: {min: 2, max: 20}, "
    "adaptation: {one_of: {full: {dropout: {min: 0.0, max: 0.3}}, head_only: {}}}}"
)


def plan_of(space: str = HOLDS_IT, **sections: str) -> Plan:
    search = "{pruner: successive_halving, concurrent_trials: 1, startup_trials: 2, first: [{learning_rate: 3e-4}]}"
    return empty_plan(**{"space": space, "search": search, "report": "{top: 1, baselines: [strong]}", **sections})


def opened(folder: Path, plan: Plan) -> SearchController:
    folder.mkdir(exist_ok=True)
    return open_search_controller(plan, folder, strong=strong_recipe(plan, SMALL, can_probe=True))


def next_job(controller: SearchController) -> Job:
    job = controller.next_job("t")
    assert job is not None
    (Path(job.directory) / "step-0001").mkdir(parents=True)
    return job


@pytest.mark.parametrize(
    ("rows", "parameters", "expected"),
    [
        (562, 22_700_000, ("full", 1e-4, 17)),
        (100, 110_000_000, ("full", 2e-5, 20)),
        (100_000, 355_000_000, ("full", 2e-5, 3)),
        (4_000, 780_000_000, ("full", 1e-5, 3)),
        (4_000, 7_000_000_000, ("lora", 2e-4, 3)),
    ],
)
def test_it_follows_the_rows_and_the_size_of_the_model(
    rows: int, parameters: int, expected: tuple[str, float, int]
) -> None:
    facts = PlanFacts(rows=rows, num_layers=6, parameters=parameters)
    recipe = strong_recipe(plan_of(), facts, can_probe=True)
    assert (recipe.adaptation, recipe.learning_rate, recipe.epochs) == expected
    assert (recipe.schedule, recipe.warmup_fraction, recipe.batch_size) == ("linear", 0.1, 32)
    assert recipe.head_init == "probe"
    assert strong_recipe(plan_of(), facts, can_probe=False) == recipe.model_copy(update={"head_init": "random"})


def test_a_space_that_holds_it_gives_a_configuration_with_the_models_usual_dropout() -> None:
    plan = plan_of()
    recipe = strong_recipe(plan, SMALL, can_probe=True)
    found = configuration_of(plan, recipe)
    drawn = {"learning_rate": 1e-4, "warmup_fraction": 0.1, "epochs": 17, "head_init": "probe"}
    assert found == {"adaptation": "full", "adaptation.full.dropout": 0.1, **drawn}
    again = plan.space.recipe(found, plan.training, plan.task.pooling)
    assert again == recipe.model_copy(update={"dropout": 0.1})


def test_it_takes_no_more_epochs_than_the_space_searches() -> None:
    plan = plan_of(HOLDS_IT.replace("{min: 2, max: 20}", "{min: 4, max: 8}"))
    recipe = strong_recipe(plan, SMALL, can_probe=True)
    assert recipe.epochs == 8
    assert configuration_of(plan, recipe) is not None


@pytest.mark.parametrize(
    "space",
    [
        HOLDS_IT.replace("min: 1e-5", "min: 2e-4"),
        HOLDS_IT.replace("full: {dropout", "freeze_bottom: {layers: 2, dropout"),
        HOLDS_IT.replace("weight_decay: 0.01", "weight_decay: 0.3"),
        HOLDS_IT.replace("warmup_fraction: {min: 0.0, max: 0.2}, ", ""),
    ],
)
def test_a_space_without_one_of_its_settings_does_not_hold_it(space: str) -> None:
    plan = plan_of(space)
    assert configuration_of(plan, strong_recipe(plan, SMALL, can_probe=True)) is None


def test_it_is_the_first_trial_is_not_stopped_and_keeps_its_checkpoint(tmp_path: Path) -> None:
    controller = opened(tmp_path, plan_of())
    job = next_job(controller)
    assert (job.study, job.number, job.recipe.learning_rate, job.recipe.epochs) == (SEARCH, 0, 1e-4, 17)
    assert controller.evaluation("t", evaluation(1, 0.01)), "no evaluation stops it"
    controller.trial_ended("t", completed(evaluation(1, 0.5, 1.0)), False)
    job = next_job(controller)
    assert job.recipe.learning_rate == 3e-4, "then what the plan wants first"
    controller.trial_ended("t", completed(evaluation(1, 0.9, 1.0)), False)
    assert {path.name for path in (tmp_path / "checkpoints").iterdir()} == {"trial-0000", "trial-0001"}
    strong = controller.baseline_trials["strong"]
    assert (strong.number, strong.values) == (0, (0.5,))
    assert baseline_score_name("strong", strong) == "trial-0000", "test is read once for both of its rows"
    assert controller.journals[BASELINES].trials() == []


def test_a_search_that_goes_on_does_not_try_it_again(tmp_path: Path) -> None:
    next_job(opened(tmp_path, plan_of()))
    again = opened(tmp_path, plan_of())
    job = again.next_job("t")
    assert job is not None
    assert (job.study, job.number, job.recipe.learning_rate) == (SEARCH, 0, 1e-4), "it is resumed"
    again.trial_ended("t", completed(evaluation(1, 0.5, 1.0)), False)
    assert next_job(again).recipe.learning_rate == 3e-4
    later = open_search_controller(plan_of(report="{top: 1, baselines: []}"), tmp_path)
    assert list(later.baseline_trials) == ["strong"]


def test_where_the_space_does_not_hold_it_it_runs_beside_the_search(tmp_path: Path) -> None:
    plan = plan_of("{learning_rate: [1e-4, 3e-4]}")
    controller = opened(tmp_path, plan)
    job = next_job(controller)
    assert (job.study, job.recipe) == (BASELINES, strong_recipe(plan, SMALL, can_probe=True))
    controller.trial_ended("t", completed(evaluation(1, 0.5, 1.0)), False)
    assert baseline_score_name("strong", controller.baseline_trials["strong"]) == "strong"
    assert next_job(controller).study == SEARCH


def test_a_search_that_began_without_it_gets_it_beside(tmp_path: Path) -> None:
    before = open_search_controller(plan_of(report="{baselines: []}"), tmp_path)
    next_job(before)
    before.trial_ended("t", completed(evaluation(1, 0.5, 1.0)), False)
    job = next_job(opened(tmp_path, plan_of()))
    assert (job.study, isinstance(job.recipe, Recipe), job.recipe.epochs) == (BASELINES, True, 17)
