"""The policy without a cluster: what runs next, what a trial's end means, what budgets and retention do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from optuna.samplers import RandomSampler

from cost_examples import minilm_workload
from finesearch.errors import DataError, DiskFullError
from finesearch.plan import FIXED_RECIPES, Plan
from finesearch.run.build_record import trial_row
from finesearch.storage.local_store import LocalStore
from finesearch.tuning.controller.budget_usage import BudgetUsage
from finesearch.tuning.controller.search_controller import BASELINES, SEARCH, Concurrency, SearchController
from finesearch.tuning.controller.trial_costs import TrialCosts
from finesearch.tuning.controller.trial_outcomes import worker_error
from finesearch.tuning.messages import EvaluationReport, TrialCompleted, TrialFailed
from finesearch.tuning.samplers.sampler_factory import make_pruner
from finesearch.tuning.study.checkpoint_retention import CheckpointRetention, rankable_trials
from finesearch.tuning.study.journal import Direction, Journal
from finesearch.tuning.study.journaled_trial import Outcome
from finesearch.tuning.study.resumable_journal import ResumableJournal
from finesearch.tuning.study.study_storage import open_storage
from finesearch.tuning.trial_seed import trial_seed
from plans import empty_plan
from trial_reports import completed, evaluation


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def conduct(
    folder: Path,
    plan: Plan,
    clock: Clock | None = None,
    *,
    devices: float = 1.0,
    costs: TrialCosts | None = None,
    read_only: bool = False,
) -> SearchController:
    storage = open_storage(folder / "study.db")
    directions = [Direction(o.name, o.goal == "max") for o in plan.objectives]
    pruner = make_pruner(plan, plan.max_evaluations)
    search = ResumableJournal(storage, plan.name, directions, pruner, read_only)
    baselines = Journal(storage, "baselines", directions[:1])
    usage = BudgetUsage({SEARCH: search, BASELINES: baselines}, devices, clock or Clock())
    fixed = {name: FIXED_RECIPES[name] for name in plan.report.baselines if name in FIXED_RECIPES}
    controller = SearchController(
        plan,
        search=search,
        baselines=baselines,
        run=LocalStore(folder),
        concurrent_trials=1,
        usage=usage,
        fixed=fixed,
        read_only=read_only,
    )
    if costs is not None:
        controller.set_trial_costs(costs)
    usage.begin()
    return controller


def complete(accuracy: float, seconds: float = 1.0, **changed: Any) -> TrialCompleted:
    return completed(evaluation(1, accuracy, seconds), **changed)


def run_one(controller: SearchController, accuracy: float, seconds: float = 1.0, **changed: Any) -> int:
    job = controller.next_job("t")
    assert job is not None
    (Path(job.directory) / "step-0001").mkdir(parents=True)
    controller.trial_ended("t", complete(accuracy, seconds, **changed), False)
    return job.number


def test_failed_trials_are_replaced_and_do_not_count(tmp_path: Path) -> None:
    controller = conduct(tmp_path, empty_plan(budget="{trials: 2}"))
    assert controller.next_job("t")
    controller.trial_ended("t", TrialFailed(reason="it broke", error="TrialError"), False)
    run_one(controller, 0.5)
    assert not controller.is_finished
    run_one(controller, 0.6)
    assert controller.is_finished
    assert controller.next_job("t") is None
    assert controller.journals[SEARCH].counts() == {"complete": 2, "pruned": 0, "failed": 1, "running": 0}


def test_first_configurations_come_before_the_sampler(tmp_path: Path) -> None:
    first = "[{learning_rate: 1.0e-4, adaptation: {freeze_bottom: {layers: 3}}}, {weight_decay: 0.1}]"
    search = f"{{pruner: none, first: {first}}}"
    controller = conduct(tmp_path, empty_plan(search=search))
    job = controller.next_job("a")
    assert job is not None
    assert (job.recipe.learning_rate, job.recipe.adaptation) == (1e-4, "freeze_bottom")
    assert job.recipe.adaptation_parameters == {"layers": 3}
    job = controller.next_job("b")
    assert job is not None
    assert job.recipe.weight_decay == 0.1


def test_the_ordinary_recipe_runs_first_and_counts_as_no_trial(tmp_path: Path) -> None:
    plan = empty_plan(report="{baselines: [ordinary]}", budget="{trials: 1}")
    controller = conduct(tmp_path, plan)
    job = controller.next_job("t")
    assert job is not None
    assert (job.study, job.recipe.adaptation, job.recipe.learning_rate) == (BASELINES, "full", 5e-5)
    controller.trial_ended("t", complete(0.7), False)
    run_one(controller, 0.5)
    assert controller.is_finished
    assert len(controller.journals[BASELINES].trials()) == 1


def test_only_what_can_be_ranked_stays_on_disk(tmp_path: Path) -> None:
    controller = conduct(tmp_path, empty_plan(report="{top: 2, baselines: []}", search="{pruner: none}"))
    for accuracy in (0.5, 0.9, 0.7, 0.6, 0.8):
        run_one(controller, accuracy)
    assert {path.name for path in (tmp_path / "checkpoints").iterdir()} == {"trial-0001", "trial-0004"}


def test_with_several_objectives_the_front_stays_on_disk(tmp_path: Path) -> None:
    search = "{pruner: none, objectives: [{metric: accuracy, goal: max}, {metric: seconds, goal: min}]}"
    controller = conduct(tmp_path, empty_plan(report="{top: 1, baselines: []}", search=search))
    for accuracy, seconds in ((0.9, 9.0), (0.5, 1.0), (0.4, 5.0)):
        run_one(controller, accuracy, seconds)
    assert {path.name for path in (tmp_path / "checkpoints").iterdir()} == {"trial-0000", "trial-0001"}
    assert [trial.values for trial in controller.journals[SEARCH].trials()] == [(0.9, 9.0), (0.5, 1.0), (0.4, 5.0)]


def test_hours_are_counted_over_resumes(tmp_path: Path) -> None:
    clock, plan = Clock(), empty_plan(budget="{trials: 9, hours: 1}")
    controller = conduct(tmp_path, plan, clock)
    run_one(controller, 0.5)
    clock.now += 3000
    controller.tick()
    assert controller.stop_reason is None
    clock.now += 100_000  # nobody searched meanwhile
    controller = conduct(tmp_path, plan, clock)
    assert controller.stop_reason is None
    clock.now += 601
    assert controller.next_job("t") is None
    assert controller.is_finished
    assert controller.stop_reason == "the budget of 1 hours is spent"


def test_device_hours_count_every_device_of_every_trial(tmp_path: Path) -> None:
    plan = empty_plan(budget="{trials: 9, device_hours: 1}", search="{pruner: none}")
    controller = conduct(tmp_path, plan, devices=4)
    run_one(controller, 0.5, seconds=500)
    assert controller.stop_reason is None
    run_one(controller, 0.5, seconds=401)
    assert controller.stop_reason == "the budget of 1 device-hours is spent"
    again = conduct(tmp_path, plan, devices=4)
    assert again.is_finished, "usage is read back from the journal"


def test_a_cost_in_money_ends_a_search_over_its_resumes(tmp_path: Path) -> None:
    plan = empty_plan(budget="{trials: 9, cost: {per_device_hour: 2.5, most: 2.5}}", search="{pruner: none}")
    controller = conduct(tmp_path, plan, devices=4)
    run_one(controller, 0.5, seconds=500)
    assert controller.stop_reason is None
    run_one(controller, 0.5, seconds=401)
    assert controller.stop_reason == "the budget of a cost of 2.5, at 2.5 a device-hour, is spent"
    assert conduct(tmp_path, plan, devices=4).is_finished
    without_end = empty_plan(budget="{trials: 9, cost: {per_device_hour: 2.5}}", search="{pruner: none}")
    assert not conduct(tmp_path, without_end, devices=4).is_finished, "a price alone ends nothing"


def test_a_spent_budget_stops_a_running_trial_and_says_so(tmp_path: Path) -> None:
    clock = Clock()
    controller = conduct(tmp_path, empty_plan(budget="{trials: 9, hours: 1}", search="{pruner: none}"), clock)
    controller.next_job("t")
    assert controller.evaluation("t", evaluation(1, 0.5))
    clock.now += 3601
    assert not controller.evaluation("t", evaluation(2, 0.6))
    controller.trial_ended("t", evaluation(2, 0.6), False)
    trial = controller.journals[SEARCH].get(0)
    assert trial.state == "pruned"
    assert trial.outcome.reason == "stopped at evaluation 2: the budget of 1 hours is spent"


def ended_with(last: EvaluationReport) -> TrialCompleted:
    """The end of a trial that tells its last evaluation with it."""
    return completed(last, last)


def test_the_last_evaluation_is_journaled_with_the_end_and_stops_nothing(tmp_path: Path) -> None:
    plan = empty_plan(search="{pruner: median, startup_trials: 1}", budget="{trials: 4}")
    controller = conduct(tmp_path, plan)
    journal = controller.journals[SEARCH]
    for accuracy, is_spared in ((0.5, False), (0.4, True), (0.9, False)):
        assert controller.next_job("t")
        assert controller.evaluation("t", evaluation(1, 0.3))
        controller.trial_ended("t", ended_with(evaluation(2, accuracy, 2.0)), False)
        trial = journal.trials()[-1]
        assert (trial.state, trial.last.go_on, trial.last.spared) == ("complete", True, is_spared)
        told = journal.study.get_trials()[-1]
        assert told.intermediate_values == {1: 0.3, 2: accuracy}
        assert trial.values == (accuracy,)
        row = trial_row(controller, trial)
        assert [said.metrics["accuracy"] for said in row.history] == [0.3, accuracy]
        assert (row.trainable_parameters, row.seconds) == (1234, 2.0)
        assert "last" not in told.user_attrs["outcome"], "kept as an evaluation, not twice"


def test_a_last_evaluation_that_is_no_number_fails_the_trial(tmp_path: Path) -> None:
    controller = conduct(tmp_path, empty_plan())
    assert controller.next_job("t")
    assert controller.evaluation("t", evaluation(1, 0.5))
    controller.trial_ended("t", ended_with(evaluation(2, float("inf"))), False)
    (trial,) = controller.journals[SEARCH].trials()
    assert trial.state == "failed"
    assert trial.outcome.reason == "accuracy was inf at evaluation 2"
    assert controller.journals[SEARCH].study.get_trials()[0].intermediate_values == {1: 0.5}


def test_a_trial_that_has_come_to_its_end_counts_though_the_budget_is_spent(tmp_path: Path) -> None:
    clock = Clock()
    controller = conduct(tmp_path, empty_plan(budget="{trials: 9, hours: 1}"), clock)
    assert controller.next_job("t")
    clock.now += 3601
    controller.tick()
    assert controller.stop_reason
    controller.trial_ended("t", ended_with(evaluation(1, 0.5)), False)
    assert controller.journals[SEARCH].counts() == {"complete": 1, "pruned": 0, "failed": 0, "running": 0}


def test_a_dead_actor_fails_its_trial(tmp_path: Path) -> None:
    controller = conduct(tmp_path, empty_plan())
    controller.next_job("t")
    controller.trial_ended("t", None, True)
    controller.trial_ended("t", None, True)
    assert "actor died three times" in controller.journals[SEARCH].get(0).outcome.reason


@pytest.mark.parametrize(("metrics", "reason"), [
    ({"accuracy": float("nan")}, "accuracy was nan at evaluation 1"),
    ({"accuracy": float("inf")}, "accuracy was inf at evaluation 1"),
    ({"loss": 1.0}, "accuracy was None at evaluation 1"),
])  # fmt: skip
def test_a_metric_that_is_no_number_fails_the_trial(tmp_path: Path, metrics: dict[str, float], reason: str) -> None:
    controller = conduct(tmp_path, empty_plan())
    controller.next_job("t")
    report = evaluation(1, 0.0, metrics=metrics)
    assert not controller.evaluation("t", report)
    controller.trial_ended("t", report, False)
    trial = controller.journals[SEARCH].get(0)
    assert (trial.state, trial.outcome.reason) == ("failed", reason)
    assert controller.journals[SEARCH].study.get_trials()[0].intermediate_values == {}


def test_an_objective_that_is_not_finite_fails_the_trial(tmp_path: Path) -> None:
    search = "{pruner: none, objectives: [{metric: accuracy, goal: max}, {metric: seconds, goal: min}]}"
    controller = conduct(tmp_path, empty_plan(search=search))
    controller.next_job("t")
    controller.trial_ended("t", complete(0.5, float("inf")), False)
    assert "an objective is not finite" in controller.journals[SEARCH].get(0).outcome.reason


def test_what_would_end_every_trial_ends_the_search_and_keeps_its_trial(tmp_path: Path) -> None:
    controller = conduct(tmp_path, empty_plan())
    controller.next_job("t")
    controller.trial_ended("t", TrialFailed(reason="train.csv: gone", error="DataError", is_fatal=True), False)
    assert isinstance(controller.fatal, DataError)
    assert controller.should_stop_running
    assert controller.journals[SEARCH].counts()["running"] == 1


def test_a_workers_error_is_remade_by_name() -> None:
    assert isinstance(worker_error(TrialFailed(reason="full", error="DiskFullError")), DiskFullError)
    assert worker_error(TrialFailed(reason="x", error="OSError")).exit_code == 3
    assert worker_error(TrialFailed(reason="x", error="ZeroDivisionError")).exit_code == 1


def test_a_grid_ends_when_every_cell_was_tried(tmp_path: Path) -> None:
    plan = empty_plan(
        space="{learning_rate: [0.1, 0.2], weight_decay: [0.0, 0.1]}",
        search="{sampler: grid, pruner: none}",
        budget="{trials: 99}",
    )
    controller = conduct(tmp_path, plan)
    seen = set()
    while not controller.is_finished:
        number = run_one(controller, 0.5)
        seen.add(tuple(sorted(controller.journals[SEARCH].get(number).parameters.items())))
    assert len(seen) == 4


def test_a_trial_without_a_result_still_says_how_many_parameters_it_trained(tmp_path: Path) -> None:
    plan = empty_plan(search="{pruner: successive_halving, reduction_factor: 2}")
    controller = conduct(tmp_path, plan)
    run_one(controller, 0.9)
    controller.next_job("u")
    assert controller.evaluation("u", evaluation(1, 0.9))
    running = trial_row(controller, controller.journals[SEARCH].get(1))
    controller.next_job("v")
    assert not controller.evaluation("v", evaluation(1, 0.1))
    controller.trial_ended("v", evaluation(1, 0.1), False)
    pruned = trial_row(controller, controller.journals[SEARCH].get(2))
    assert (running.state, running.trainable_parameters) == ("running", 1234)
    assert (pruned.state, pruned.trainable_parameters) == ("pruned", 1234)
    assert pruned.reason == "pruned by successive_halving at evaluation 1"


def test_a_trial_that_trains_nothing_is_neither_judged_by_the_pruner_nor_judges_others(tmp_path: Path) -> None:
    space = "{learning_rate: [1.0e-4], adaptation: {one_of: {full: {}, zero_shot: {}}}}"
    first = "[{adaptation: full}, {adaptation: zero_shot}, {adaptation: full}]"
    # From the second trial on, the median of those before must be reached at each evaluation.
    search = f"{{pruner: median, startup_trials: 1, concurrent_trials: 1, first: {first}}}"
    controller = conduct(tmp_path, empty_plan(space=space, search=search))
    verdicts = {}
    for number, accuracy in enumerate((0.5, 0.1, 0.4)):
        job = controller.next_job("t")
        assert job is not None
        verdicts[job.recipe.adaptation, number] = controller.evaluation("t", evaluation(1, accuracy))
        controller.trial_ended("t", complete(accuracy), False)
    # The untrained 0.1 goes to its end, and has not lowered the median that 0.4 is held against.
    assert verdicts == {("full", 0): True, ("zero_shot", 1): True, ("full", 2): False}
    asked = controller.journals[SEARCH].study.get_trials()[1]
    assert (asked.state.name, asked.values, asked.intermediate_values) == ("COMPLETE", [0.1], {})


def test_a_job_says_what_a_trial_must_come_up_to_for_being_ranked(tmp_path: Path) -> None:
    controller = conduct(tmp_path, empty_plan(budget="{trials: 9}", report="{top: 2, baselines: [ordinary]}"))
    bars = {SEARCH: [], BASELINES: []}
    for accuracy in (0.99, 0.5, 0.7, 0.6, 0.9, 0.1):
        job = controller.next_job("t")
        assert job is not None
        bars[job.study].append(job.bar)
        controller.trial_ended("t", complete(accuracy), False)
    # A baseline is always in the report, and is no bar to others.
    assert bars == {BASELINES: [None], SEARCH: [None, None, 0.5, 0.6, 0.7]}


def test_where_less_is_better_the_bar_is_the_largest_that_is_ranked(tmp_path: Path) -> None:
    journal = Journal(open_storage(tmp_path / "study.db"), "study", [Direction("perplexity", maximize=False)])
    retention = CheckpointRetention(empty_plan(report="{top: 2}"), journal, LocalStore(tmp_path))
    bars = []
    for perplexity in (5.0, 7.0, 6.0):
        trial = journal.ask(lambda _: {}, RandomSampler(seed=0))
        journal.finish(trial.number, Outcome("complete", None, (perplexity,)))
        retention.trial_ended(trial.number)
        bars.append(retention.bar)
    assert bars == [None, 7.0, 6.0]
    assert CheckpointRetention(empty_plan(report="{top: 2}"), journal, LocalStore(tmp_path)).bar == 6.0


def test_with_several_objectives_every_trial_may_be_ranked_and_baselines_have_the_metric_alone(tmp_path: Path) -> None:
    search = "{pruner: none, objectives: [{metric: accuracy, goal: max}, {metric: seconds, goal: min}]}"
    controller = conduct(tmp_path, empty_plan(report="{top: 1, baselines: [zero_shot, ordinary]}", search=search))
    for accuracy in (0.5, 0.6, 0.7, 0.8):
        run_one(controller, accuracy)
    assert [trial.values for trial in controller.journals[BASELINES].trials()] == [(0.5,), (0.6,)]
    assert [trial.values for trial in controller.journals[SEARCH].trials()] == [(0.7, 1.0), (0.8, 1.0)]
    job = controller.next_job("t")
    assert job is not None
    assert (job.study, job.bar) == (SEARCH, None)


def test_a_trial_without_weights_says_so_when_more_trials_are_ranked_later(tmp_path: Path) -> None:
    from finesearch.run.final_scoring import _cached_scores
    from finesearch.run.score_cache import ScoreCache

    controller = conduct(tmp_path, empty_plan(report="{top: 1, baselines: []}"))
    run_one(controller, 0.9, checkpoint="somewhere")
    run_one(controller, 0.8, checkpoint=None)
    assert _cached_scores(controller, ScoreCache(tmp_path / "scores")) == {}
    wider = conduct(tmp_path, empty_plan(report="{top: 2, baselines: []}"))
    known = _cached_scores(wider, ScoreCache(tmp_path / "scores"))
    assert {name: score.error for name, score in known.items()} == {
        "trial-0001": "its weights were not kept: it was not among report.top when it ended"
    }


def test_a_search_is_ending_once_a_group_has_nothing_left_to_do(tmp_path: Path) -> None:
    controller = conduct(tmp_path, empty_plan(budget="{trials: 3}"))
    controller.set_concurrency(Concurrency(2))
    seen = [controller.is_ending]
    for name in "ab":
        assert controller.next_job(name)
        seen.append(controller.is_ending)
    controller.trial_ended("a", complete(0.5), False)
    assert controller.next_job("c")
    seen.append(controller.is_ending)
    controller.trial_ended("b", complete(0.6), False)
    seen.append(controller.is_ending)
    # It fails: another takes its place, and then there is a last one again.
    failed = TrialFailed(reason="it broke", error="TrialError")
    controller.trial_ended("c", failed, False)
    seen.append(controller.is_ending)
    assert controller.next_job("d")
    seen.append(controller.is_ending)
    controller.trial_ended("d", complete(0.7), False)
    seen.append(controller.is_ending)
    assert seen == [False, False, False, False, True, False, True, False]


def test_a_search_is_ending_when_little_is_left_by_what_its_trials_cost(tmp_path: Path) -> None:
    plan = empty_plan(budget="{trials: 4}")
    controller = conduct(tmp_path, plan, costs=TrialCosts(plan, minilm_workload()))
    said = []
    for _ in range(3):
        job = controller.next_job("t")
        assert job is not None
        epochs = job.recipe.epochs
        controller.evaluation("t", evaluation(1, 0.5, 40.0, epoch=epochs))
        controller.trial_ended("t", complete(0.5, 40.0), False)
        said.append(controller.is_ending)
    assert controller.next_job("t")
    said.append(controller.is_ending)
    controller.evaluation("t", evaluation(1, 0.5, 36.0, epoch=0.9 * epochs))
    said.append(controller.is_ending)
    assert said == [False, False, False, False, True]


def test_a_report_of_a_run_under_way_ends_no_trial_and_deletes_no_checkpoint(tmp_path: Path) -> None:
    plan = empty_plan(search="{pruner: successive_halving, concurrent_trials: 1, startup_trials: 1}")
    controller = conduct(tmp_path, plan)
    for number, accuracy in enumerate((0.9, 0.8, 0.7, 0.6)):
        controller.next_job(f"t{number}")
        controller.evaluation(f"t{number}", evaluation(1, accuracy))
    controller.next_job("t")
    journal = controller.journals[SEARCH]
    assert not journal.report(4, evaluation(1, 0.1), 0.1), "its verdict is journaled, and its end is not yet"
    newer = tmp_path / "checkpoints" / "trial-0007"
    newer.mkdir(parents=True)
    read = conduct(tmp_path, plan, read_only=True)
    assert read.journals[SEARCH].get(4).state == "running"
    assert newer.is_dir(), "the copy of the study may be older than the run"
    assert conduct(tmp_path, plan).journals[SEARCH].get(4).state == "pruned"
    assert not newer.exists()


def test_among_equals_the_trial_with_fewer_trained_parameters_comes_first(tmp_path: Path) -> None:
    controller = conduct(tmp_path, empty_plan(search="{pruner: none, concurrent_trials: 1}"))
    for number, trained in enumerate((900, 100, 900, 50)):
        assert controller.next_job("t") is not None
        last = evaluation(1, 0.5 if number < 3 else 0.4, trainable_parameters=trained)
        controller.trial_ended("t", completed(last, last, checkpoint=str(tmp_path)), False)
    ranked = rankable_trials(controller.journals[SEARCH], 4)
    assert [trial.number for trial in ranked] == [1, 0, 2, 3]


def test_each_trial_trains_from_a_seed_of_its_own_the_same_after_a_restart(tmp_path: Path) -> None:
    plan = empty_plan(training="{seed: 5}", search="{pruner: none, concurrent_trials: 2}")
    controller = conduct(tmp_path, plan)
    jobs = [controller.next_job(name) for name in ("t", "u", "v")]
    seeds = [job.seed for job in jobs if job is not None]
    assert seeds == [trial_seed(5, number) for number in range(len(seeds))]
    assert len(set(seeds)) == len(seeds) >= 2
    again = conduct(tmp_path, plan)
    resumed = [again.next_job(name) for name in ("t", "u")]
    assert [job.seed for job in resumed if job is not None] == seeds[:2]


def test_so_many_failed_trials_end_the_search_and_the_last_is_named(tmp_path: Path) -> None:
    controller = conduct(tmp_path, empty_plan(budget="{trials: 8, failed_trials: 2}"))
    for number in range(2):
        assert controller.stop_reason is None
        assert controller.next_job("t") is not None
        controller.trial_ended("t", TrialFailed(reason=f"broke {number}", group="g", began=1.0), False)
    assert controller.stop_reason == "2 trials failed (budget.failed_trials is 2); the last: broke 1"
    assert controller.next_job("t") is None


def test_seconds_of_a_trial_never_fall(tmp_path: Path) -> None:
    usage = conduct(tmp_path, empty_plan(), devices=2.0).usage
    for seconds in (30.0, 10.0):  # a trial that was resumed tells its first evaluations again
        usage.trained((SEARCH, 0), seconds)
    usage.trained((SEARCH, 1), 5.0)
    assert usage.device_seconds == 2.0 * 35.0
