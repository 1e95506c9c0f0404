"""Costs of trials: set right by those that ran, deciding order, time left and, if asked for, what is tried next."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from statistics import mean

import pytest

from cost_examples import minilm_workload, priced_plan
from finesearch.plan import FIXED_RECIPES, Plan, Recipe, Scalar
from finesearch.run.progress import Progress
from finesearch.storage.local_store import LocalStore
from finesearch.tuning.controller.budget_usage import BudgetUsage
from finesearch.tuning.controller.search_controller import BASELINES, SEARCH, SearchController
from finesearch.tuning.controller.trial_costs import TrialCosts, TrialProgress
from finesearch.tuning.samplers.cost_aware import DRAWN, PROPOSED, cost_aware_configuration, expected_improvement
from finesearch.tuning.samplers.latin_hypercube import latin_hypercube_configuration
from finesearch.tuning.samplers.sampler_factory import make_pruner, make_sampler
from finesearch.tuning.study.journal import Direction, Journal, Outcome
from finesearch.tuning.study.resumable_journal import ResumableJournal
from finesearch.tuning.study.study_storage import open_storage
from trial_reports import completed, evaluation

FULL = {"adaptation": "full", "learning_rate": 1e-4, "weight_decay": 0.1, "dropout": 0.1}
LORA = {**FULL, "adaptation": "lora", "adaptation.lora.rank": 4, "adaptation.lora.learning_rate": 1e-3}


def conduct(folder: Path, plan: Plan, concurrent: int = 1, with_costs: bool = True) -> SearchController:
    storage = open_storage(folder / "study.db")
    pruner = make_pruner(plan, plan.max_evaluations)
    search = ResumableJournal(storage, plan.name, [Direction("accuracy", True)], pruner)
    baselines = Journal(storage, "baselines", [Direction("accuracy", True)])
    usage = BudgetUsage({SEARCH: search, BASELINES: baselines}, 1.0)
    fixed = {name: FIXED_RECIPES[name] for name in plan.report.baselines if name in FIXED_RECIPES}
    controller = SearchController(
        plan,
        search=search,
        baselines=baselines,
        run=LocalStore(folder),
        concurrent_trials=concurrent,
        usage=usage,
        fixed=fixed,
    )
    if with_costs:
        controller.set_trial_costs(TrialCosts(plan, minilm_workload()))
    return controller


def seconds_of(plan: Plan, recipe: Recipe) -> float:
    costs = TrialCosts(plan, minilm_workload())
    return costs.run_of(recipe, None).estimated


# -- calibration -----------------------------------------------------------------------------------------------------


def test_trials_that_ran_set_the_scale_and_one_that_waited_does_not() -> None:
    costs = TrialCosts(priced_plan(), minilm_workload())
    assert costs.calibrate([TrialProgress("full", 10.0), TrialProgress("full", 10.0, share=0.0, seconds=5.0)]) is None
    ran = [
        TrialProgress("full", 10.0, 0.5, 10.0),
        TrialProgress("head_only", 4.0, 1.0, 8.0),
        TrialProgress("full", 10.0, 1.0, 900.0),
    ]
    calibration = costs.calibrate(ran)
    assert calibration is not None
    assert calibration.overall == 2.0
    assert calibration.families == {}, "two of a kind are not enough"
    assert costs.seconds(FULL, calibration) == pytest.approx(2.0 * costs.seconds(FULL, None))


def test_an_adaptation_that_ran_often_enough_has_a_scale_of_its_own() -> None:
    costs = TrialCosts(priced_plan(), minilm_workload())
    runs = [TrialProgress("full", 10.0, 1.0, 10.0)] * 5 + [TrialProgress("lora", 10.0, 1.0, 15.0)] * 3
    calibration = costs.calibrate(runs)
    assert calibration is not None
    assert (calibration.of("full"), calibration.of("lora"), calibration.of("head_only")) == (1.0, 1.5, 1.0)
    ratio = costs.seconds(LORA, calibration) / costs.seconds(FULL, calibration)
    assert ratio == pytest.approx(1.5 * costs.seconds(LORA, None) / costs.seconds(FULL, None))


# -- order and time left ---------------------------------------------------------------------------------------------


def test_trials_left_from_before_start_longest_first(tmp_path: Path) -> None:
    first = "[{adaptation: head_only}, {adaptation: full}, {adaptation: {freeze_bottom: {layers: 4}}}]"
    search = f"{{pruner: none, concurrent_trials: 1, first: {first}}}"
    plan = priced_plan(search=search, report="{baselines: [zero_shot, ordinary]}")
    controller = conduct(tmp_path, plan, concurrent=5)
    asked = [controller.next_job(name) for name in "abcde"]
    assert [job.recipe.adaptation for job in asked[:2]] == ["full", "zero_shot"], "the baselines, longest first"
    # The full one has trained two of its three epochs.
    assert controller.evaluation("d", evaluation(1, 0.51, 30.0, epoch=2.0))
    again = conduct(tmp_path, plan, concurrent=5)
    order = [again.next_job(name) for name in "abcde"]
    found = [(job.study, job.recipe.adaptation) for job in order]
    assert found[0] == (BASELINES, "full")
    assert [name for study, name in found if study == SEARCH] == ["freeze_bottom", "head_only", "full"]
    assert found[-1] == (BASELINES, "zero_shot")
    left = [seconds_of(plan, job.recipe) * (1 / 3 if job.decided else 1.0) for job in order]
    assert left == sorted(left, reverse=True)


def test_without_costs_trials_go_on_in_the_order_in_which_they_were_asked_for(tmp_path: Path) -> None:
    controller = conduct(tmp_path, priced_plan(), concurrent=4, with_costs=False)
    asked = [controller.next_job(name).number for name in "abcd"]
    again = conduct(tmp_path, priced_plan(), concurrent=4, with_costs=False)
    assert [again.next_job(name).number for name in "abcd"] == asked
    assert again.seconds_left() is None


def test_the_time_left_is_told_from_the_first_evaluation_on(tmp_path: Path) -> None:
    plan = priced_plan(trials=10)
    controller, stream = conduct(tmp_path, plan), io.StringIO()
    progress = Progress(plan, stream)
    progress._controller = controller
    job = controller.next_job("t")
    assert controller.seconds_left() is None
    assert "left" not in progress.summary()
    # A third of the trial took twice what was estimated.
    controller.evaluation("t", evaluation(1, 0.51, 2 * seconds_of(plan, job.recipe) / 3))
    left = controller.seconds_left()
    assert left is not None
    whole = mean(seconds_of(plan, recipe) for recipe in drawn_recipes(plan))
    assert left == pytest.approx(9 * 2 * whole, rel=0.25)
    assert " left" in progress.summary()


def test_hours_that_end_sooner_bound_the_time_left(tmp_path: Path) -> None:
    plan = priced_plan(budget="{trials: 1000, hours: 0.01}")
    controller = conduct(tmp_path, plan)
    controller.next_job("t")
    controller.evaluation("t", evaluation(1, 0.51, 100.0))
    assert 30.0 < (controller.seconds_left() or 0.0) <= 36.0


def drawn_recipes(plan: Plan) -> list[Recipe]:
    from finesearch.plan.space.random_sampling import sample_recipes

    return sample_recipes(plan.space, plan.training, 200)


# -- what is tried next ----------------------------------------------------------------------------------------------


def quality(parameters: Mapping[str, Scalar]) -> float:
    """As good in every branch; only the weight decay counts."""
    return 0.9 - abs(float(parameters["weight_decay"] or 0.0) - 0.1)


def searched(folder: Path, plan: Plan, trials: int, maximize: bool = True) -> Journal:
    """Trials of a made-up objective, the journal opened anew before each of them."""
    costs = TrialCosts(plan, minilm_workload())
    while True:
        journal = Journal(open_storage(folder / "study.db"), plan.name, [Direction("accuracy", maximize)])
        number = len(journal.trials())
        if number == trials:
            return journal
        given = cost_aware_configuration(plan, journal, number, lambda one: costs.seconds(one, None))
        trial = journal.ask(plan.space.suggest, make_sampler(plan, number, 1), given)
        value = quality(trial.parameters)
        journal.finish(number, Outcome("complete", None, (value if maximize else -value,)))


def spent(plan: Plan, journal: Journal, start: int = 0) -> float:
    costs = TrialCosts(plan, minilm_workload())
    return sum(costs.seconds(trial.parameters, None) for trial in journal.trials()[start:])


@pytest.mark.slow
def test_where_cheap_is_as_good_less_is_spent_and_as_much_found(tmp_path: Path) -> None:
    ratios, best = [], []
    for seed in range(3):
        plans = [priced_plan(weight, seed, trials=24) for weight in (0.0, 1.0)]
        for name in ("plain", "weighed"):
            (tmp_path / f"{seed}-{name}").mkdir()
        plain = searched(tmp_path / f"{seed}-plain", plans[0], 16)
        weighed = searched(tmp_path / f"{seed}-weighed", plans[1], 16)
        ratios.append(spent(plans[1], weighed, 8) / spent(plans[0], plain, 8))
        best.append(weighed.study.best_value - plain.study.best_value)
    assert mean(ratios) < 0.8, ratios
    assert mean(best) > -0.01, best


def test_nothing_is_weighed_before_there_is_something_to_go_by_and_the_last_ones_count_no_cost(tmp_path: Path) -> None:
    plan = priced_plan(1.0, trials=10)
    journal = searched(tmp_path, plan, 10)
    assert not any("fixed_params" in trial.system_attrs for trial in journal.study.get_trials()[:8])
    assert all("fixed_params" in trial.system_attrs for trial in journal.study.get_trials()[8:10])
    assert cost_aware_configuration(plan, journal, 10, lambda _: 1.0) is None


def test_a_choice_is_the_same_after_a_restart_and_leaves_no_trace(tmp_path: Path) -> None:
    plan = priced_plan(1.0, trials=30)
    journal = searched(tmp_path, plan, 9)
    running = journal.ask(plan.space.suggest, make_sampler(plan, 9, 1))
    seconds = lambda one: TrialCosts(plan, minilm_workload()).seconds(one, None)  # noqa: E731
    before = [(t.number, t.params, dict(t.system_attrs), dict(t.user_attrs)) for t in journal.study.get_trials()]
    found = cost_aware_configuration(plan, journal, 10, seconds)
    after = [(t.number, t.params, dict(t.system_attrs), dict(t.user_attrs)) for t in journal.study.get_trials()]
    assert before == after
    again = Journal(open_storage(tmp_path / "study.db"), plan.name, [Direction("accuracy", True)])
    assert cost_aware_configuration(plan, again, 10, seconds) == found
    assert found is not None
    assert found != running.parameters
    trial = again.ask(plan.space.suggest, make_sampler(plan, 10, 1), found)
    assert trial.parameters == found, "every active parameter, and no other"


@pytest.mark.parametrize("weight", [0.0, 1.0])
def test_a_conductor_tries_what_is_spread_then_what_was_weighed(tmp_path: Path, weight: float) -> None:
    plan = priced_plan(weight, trials=12)
    controller = conduct(tmp_path, plan)
    for number in range(10):
        job = controller.next_job("t")
        assert job is not None
        parameters = controller.journals[SEARCH].get(number).parameters
        controller.trial_ended("t", completed(evaluation(1, quality(parameters))), False)
    trials = controller.journals[SEARCH].trials()
    assert [trial.parameters for trial in trials[:8]] == [
        latin_hypercube_configuration(plan, number) for number in range(8)
    ]
    asked = controller.journals[SEARCH].study.get_trials()
    assert ["fixed_params" in trial.system_attrs for trial in asked[8:]] == [weight > 0.0] * 2


def test_small_values_are_sought_where_small_is_better(tmp_path: Path) -> None:
    for name in ("max", "min"):
        (tmp_path / name).mkdir()
    plan = priced_plan(1.0, trials=30)
    larger, smaller = searched(tmp_path / "max", plan, 12), searched(tmp_path / "min", plan, 12, maximize=False)
    params = [[trial.parameters for trial in journal.trials()] for journal in (larger, smaller)]
    assert params[0] == params[1]


def test_gain_is_expected_near_what_was_good() -> None:
    plan = priced_plan()
    tried = [{**FULL, "weight_decay": 0.3 * k / 19} for k in range(20)]
    candidates = [{**FULL, "weight_decay": 0.1}, {**FULL, "weight_decay": 0.29}, LORA]
    gain = expected_improvement(plan.space, tried, [quality(each) for each in tried], candidates, seed=0)
    assert gain.shape == (3,)
    assert (gain > 0).all()
    assert gain[0] > 10 * gain[1]


def test_a_choice_is_made_among_proposals_and_draws(tmp_path: Path) -> None:
    plan, priced = priced_plan(1.0, trials=30), []
    journal = searched(tmp_path, plan, 9)

    def seconds(configuration: Mapping[str, Scalar]) -> float:
        priced.append(dict(configuration))
        return 1.0

    found = cost_aware_configuration(plan, journal, 9, seconds)
    assert len(priced) == PROPOSED + DRAWN
    assert found in priced
    # The sampler's first proposal is what it would have tried alone.
    alone = journal.ask(plan.space.suggest, make_sampler(plan, 9, 1))
    assert priced[0] == alone.parameters
