"""Searches by freeze_thaw: trials are paused and go on, within a budget of epochs, and the same after any kill."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from cost_examples import minilm_workload
from finesearch.errors import InputError
from finesearch.plan import Plan, parse_plan
from finesearch.run.build_record import stopping_notes
from finesearch.run.disk_check import SLACK_BYTES, disk_need
from finesearch.run.open_search import open_search_controller
from finesearch.tuning.controller.search_controller import SEARCH, SearchController
from finesearch.tuning.controller.trial_costs import TrialCosts
from finesearch.tuning.messages import Job, TrialFailed
from finesearch.tuning.samplers.latin_hypercube import spread_configuration
from finesearch.tuning.study import paused_trials
from plans import empty_plan
from trial_reports import completed, evaluation
from writes import before_each_call

EPOCHS, TRIALS, STARTUP = 4, 6, 8
ENDS = {"complete", "pruned"}


SPACE = "{learning_rate: {min: 1.0e-5, max: 1.0e-1, log: true}}"


def thawing(finish_top: int = 0, more: str = "", trials: int = TRIALS, space: str = SPACE) -> Plan:
    return empty_plan(
        space=space,
        training=f"{{epochs: {EPOCHS}}}",
        report="{top: 3, baselines: []}",
        search=f"{{sampler: freeze_thaw, concurrent_trials: 1, startup_trials: {STARTUP}, finish_top: {finish_top}"
        f"{more}}}",
        budget=f"{{trials: {trials}}}",
    )


def curve(job: Job) -> list[float]:
    """Accuracy after each epoch: best at a learning rate of .001."""
    best = 0.9 - 0.15 * abs(math.log10(job.recipe.learning_rate) + 3)
    return [round(best * share, 4) for share in (0.5, 0.8, 0.95, 1.0)]


def write_state(job: Job, step: int) -> Path:
    """A checkpoint that can be resumed from, as a worker writes it before it tells the evaluation."""
    folder = Path(job.directory) / f"step-{step:04d}-a{1 + job.decided}"
    (folder / "resume").mkdir(parents=True, exist_ok=True)
    for inside in (folder, folder / "resume"):
        (inside / "manifest.json").write_text("{}")
    return folder


def play(controller: SearchController, job: Job, trial_id: str = "t") -> None:
    values = curve(job)
    for step in range(min(job.decided + 1, EPOCHS), EPOCHS + 1):
        report = evaluation(step, values[step - 1], 10.0 * step, epoch=float(step))
        folder = write_state(job, step)
        if step == EPOCHS:
            controller.trial_ended(trial_id, completed(report, report, checkpoint=str(folder)), False)
        elif not controller.evaluation(trial_id, report):
            controller.trial_ended(trial_id, report, False)
            return


def search_all(controller: SearchController) -> list[tuple[int, int]]:
    """Run the search to its end; number and decided evaluations of each job."""
    jobs = []
    while (job := controller.next_job("t")) is not None:
        jobs.append((job.number, job.decided))
        play(controller, job)
    return jobs


def told(controller: SearchController) -> list[tuple[object, ...]]:
    return [
        (trial.number, trial.state, dict(trial.parameters), [each.value for each in trial.evaluations.values()])
        for trial in controller.journals[SEARCH].trials()
    ]


def test_it_trains_as_many_epochs_as_the_budget_is_worth_in_more_trials(tmp_path: Path) -> None:
    controller = open_search_controller(thawing(), tmp_path)
    jobs = search_all(controller)
    trials = controller.journals[SEARCH].trials()
    assert sum(len(trial.evaluations) for trial in trials) == TRIALS * EPOCHS
    assert len(trials) > TRIALS
    assert jobs[:STARTUP] == [(number, 0) for number in range(STARTUP)]
    assert any(decided for _, decided in jobs), "some paused trial went on"
    assert controller.is_finished
    assert controller.epochs_left == 0.0
    best = max(trials, key=lambda trial: max(each.value for each in trial.evaluations.values()))
    assert best.state in ENDS
    assert len(best.evaluations) == EPOCHS, "the best trial was trained to its end"
    assert abs(math.log10(float(best.parameters["learning_rate"])) + 3) < 0.5
    stopped = [trial for trial in trials if trial.state == "pruned"]
    assert {trial.outcome.reason for trial in stopped if trial.outcome} <= {
        f"paused by freeze_thaw at evaluation {step}" for step in range(1, EPOCHS)
    }


def test_a_job_saves_all_that_it_goes_on_from(tmp_path: Path) -> None:
    job = open_search_controller(thawing(), tmp_path).next_job("t")
    assert job is not None
    assert (job.resume_pays, job.may_be_stopped) == (0.0, True)


def test_the_state_of_the_best_paused_trials_alone_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paused_trials, "KEPT", 4)
    controller = open_search_controller(thawing(), tmp_path)
    resumed = []
    while (job := controller.next_job("t")) is not None:
        if job.decided:
            resumed.append(job.number)
            states = list(Path(job.directory).glob("step-*/resume/manifest.json"))
            assert [path.parent.parent.name[:9] for path in states] == [f"step-{job.decided:04d}"]
        play(controller, job)
        journal = controller.journals[SEARCH]
        with_state = {
            int(path.parts[-4][6:])
            for path in tmp_path.glob("checkpoints/trial-*/step-*/resume/manifest.json")
            if journal.get(int(path.parts[-4][6:])).state == "pruned"
        }
        assert with_state == {
            number
            for number in paused_trials.numbers_with_state(journal)
            if journal.get(number).state == "pruned"
        }  # fmt: skip
    assert resumed
    left = {path.name for path in tmp_path.glob("checkpoints/*")}
    assert len(left) <= 4 + 3


def test_a_trial_that_lost_its_place_never_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paused_trials, "KEPT", 2)
    controller = open_search_controller(thawing(), tmp_path)
    lost: set[int] = set()
    while (job := controller.next_job("t")) is not None:
        assert job.number not in lost
        play(controller, job)
        journal = controller.journals[SEARCH]
        lost |= {trial.number for trial in journal.trials()} - paused_trials.numbers_with_state(journal)
    assert len(lost) > STARTUP // 2


def test_a_failed_trial_and_one_that_cannot_go_on_are_left_behind(tmp_path: Path) -> None:
    controller = open_search_controller(thawing(), tmp_path)
    failed: list[int] = []
    while (job := controller.next_job("t")) is not None:
        assert job.number not in failed
        if len(failed) < 1 or (job.decided and len(failed) < 2):
            failed.append(job.number)
            controller.trial_ended("t", TrialFailed(reason="the training loss became nan", group="g", began=1.0), False)
        else:
            play(controller, job)
    states = [controller.journals[SEARCH].get(number).state for number in failed]
    assert states == ["failed", "pruned"], "one that was measured before keeps its place"
    assert controller.epochs_left == 0.0


def test_finalists_go_on_to_their_end_beyond_the_budget(tmp_path: Path) -> None:
    controller = open_search_controller(thawing(finish_top=3, trials=4), tmp_path)
    search_all(controller)
    left = controller.epochs_left
    assert left is not None
    best = sorted(
        controller.journals[SEARCH].trials(), key=lambda trial: -max(each.value for each in trial.evaluations.values())
    )[:3]
    assert [len(trial.evaluations) for trial in best] == [EPOCHS] * 3
    assert left < 0.0, "some of the three were paused when the budget was used up"
    assert open_search_controller(thawing(finish_top=3, trials=4), tmp_path).is_finished


@pytest.mark.parametrize("finish_top", [0, 3])
def test_two_workers_use_the_budget_up_before_finalists_go_on(tmp_path: Path, finish_top: int) -> None:
    controller = open_search_controller(thawing(finish_top, trials=4), tmp_path, concurrent_trials=2)
    journal = controller.journals[SEARCH]
    running: dict[str, Job] = {}
    steps: dict[str, int] = {}
    while True:
        for worker in ("t", "u"):
            if worker not in running and (job := controller.next_job(worker)) is not None:
                running[worker], steps[worker] = job, job.decided
                if journal.get(job.number).to_end:
                    assert all(journal.get(each.number).to_end for each in running.values()), "places were not final"
        if not running:
            break
        worker = min(running, key=lambda each: (steps[each], each))
        job, steps[worker] = running[worker], steps[worker] + 1
        step, value = steps[worker], curve(running[worker])[steps[worker] - 1]
        report, folder = evaluation(step, value, 10.0 * step, epoch=float(step)), write_state(job, step)
        if step == EPOCHS:
            controller.trial_ended(worker, completed(report, report, checkpoint=str(folder)), False)
        elif controller.evaluation(worker, report):
            continue
        else:
            controller.trial_ended(worker, report, False)
        del running[worker], steps[worker]
    trained = sum(len(trial.evaluations) for trial in journal.trials())
    assert trained == 4 * EPOCHS if finish_top == 0 else trained > 4 * EPOCHS
    assert controller.is_finished


def test_the_strong_recipe_and_given_configurations_come_first_and_are_counted(tmp_path: Path) -> None:
    controller = open_search_controller(thawing(more=", first: [{learning_rate: 0.05}]"), tmp_path)
    search_all(controller)
    trials = controller.journals[SEARCH].trials()
    assert trials[0].parameters == {"learning_rate": 0.05}
    spread = [spread_configuration(controller.plan.space, STARTUP, place, 0) for place in range(STARTUP)]
    assert [dict(trial.parameters) for trial in trials[1 : 1 + STARTUP]] == spread


def test_no_trial_is_paused_before_its_least_evaluations(tmp_path: Path) -> None:
    controller = open_search_controller(thawing(more=", min_evaluations: 2"), tmp_path)
    search_all(controller)
    trials = controller.journals[SEARCH].trials()
    assert min(len(trial.evaluations) for trial in trials) == 2
    assert sum(len(trial.evaluations) for trial in trials) == TRIALS * EPOCHS


def test_where_less_is_better_the_least_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paused_trials, "KEPT", 2)
    plan = parse_plan(f"""
name: dialogues
task: {{kind: dialogue, model: m, data: {{train: a.jsonl}}, columns: {{messages: messages}}, metric: perplexity}}
space: {SPACE}
training: {{epochs: {EPOCHS}}}
report: {{baselines: []}}
search: {{sampler: freeze_thaw, concurrent_trials: 1, startup_trials: 4, finish_top: 0}}
budget: {{trials: 2}}
""")
    controller = open_search_controller(plan, tmp_path)
    for number in range(4):
        job = controller.next_job("t")
        assert job is not None
        assert (job.number, job.decided) == (number, 0)
        report = evaluation(1, 0.0, epoch=1.0, metrics={"perplexity": 5.0 + number})
        assert not controller.evaluation("t", report)
        controller.trial_ended("t", report, False)
    kept = paused_trials.numbers_with_state(controller.journals[SEARCH])
    assert kept == {0, 1}
    decisions = controller._queue.freeze_thaw
    assert decisions is not None
    assert [trial.values for trial in decisions._past()] == [(-5.0 - number,) for number in range(4)]
    assert [trial.state for trial in decisions._past()] == ["paused", "paused", "ended", "ended"]


def test_a_trial_that_ended_early_has_no_rest_to_hope_for(tmp_path: Path) -> None:
    controller = open_search_controller(thawing(), tmp_path)
    assert controller.next_job("t") is not None
    last = evaluation(2, 0.5, epoch=2.0)
    controller.trial_ended("t", completed(last, last), False)
    decisions = controller._queue.freeze_thaw
    assert decisions is not None
    (trial,) = decisions._past()
    assert (trial.state, trial.evaluations, len(trial.values)) == ("ended", 1, 1)


def test_a_trial_that_trains_nothing_costs_one_evaluation(tmp_path: Path) -> None:
    space = "{learning_rate: 1.0e-3, adaptation: {one_of: {full: {}, linear_probe: {layer: [1, 2]}}}}"
    plan = thawing(trials=2, space=space)
    controller = open_search_controller(plan, tmp_path)
    probes = 0
    while (job := controller.next_job("t")) is not None:
        if job.recipe.adaptation == "linear_probe":
            probes += 1
            last = evaluation(1, 0.4, epoch=0.0)
            controller.trial_ended("t", completed(last, last), False)
            continue
        for step in range(job.decided + 1, EPOCHS + 1):
            report = evaluation(step, 0.5, epoch=float(step))
            if step == EPOCHS:
                controller.trial_ended("t", completed(report, report), False)
            elif not controller.evaluation("t", report):
                controller.trial_ended("t", report, False)
                break
    trials = controller.journals[SEARCH].trials()
    assert probes
    assert sum(len(trial.evaluations) for trial in trials) == 2 * EPOCHS


def test_costs_do_not_overrule_a_pause(tmp_path: Path) -> None:
    plan = thawing()
    controller = open_search_controller(plan, tmp_path)
    controller.set_trial_costs(TrialCosts(plan, minilm_workload()))
    search_all(controller)
    trials = controller.journals[SEARCH].trials()
    assert not any(each.spared for trial in trials for each in trial.evaluations.values())
    assert sum(trial.state == "pruned" for trial in trials) > 2
    (note,) = stopping_notes(plan, controller.journals[SEARCH])
    assert note.startswith(f"freeze_thaw trained {len(trials)} trials for as many epochs as {TRIALS} whole ones have: ")


def test_a_failed_trial_leaves_no_folder(tmp_path: Path) -> None:
    controller = open_search_controller(thawing(), tmp_path)
    job = controller.next_job("t")
    assert job is not None
    (Path(job.directory) / "step-0001-a1" / "resume").mkdir(parents=True)
    controller.evaluation("t", evaluation(1, 0.9, epoch=1.0))
    controller.trial_ended("t", TrialFailed(reason="the training loss became nan", group="g", began=1.0), False)
    assert not Path(job.directory).exists()


def test_a_space_in_which_nothing_trains_is_refused() -> None:
    with pytest.raises(InputError, match="freeze_thaw pauses training, and nothing trains in linear_probe"):
        thawing(space="{adaptation: {one_of: {linear_probe: {layer: [1, 2]}}}}")


class Cut(BaseException):
    """A driver's death."""


def test_a_driver_killed_before_any_write_decides_the_same(tmp_path: Path) -> None:
    whole = tmp_path / "whole"
    whole.mkdir()
    controller = open_search_controller(thawing(finish_top=2), whole)
    search_all(controller)
    expected = told(controller)
    folder, place = tmp_path / "cut", 0
    folder.mkdir()
    while True:
        # Each driver dies a few writes later than the one before it; what was written stays.
        controller, place, writes = open_search_controller(thawing(finish_top=2), folder), place + 1, 0

        def cut(_: str, at: int = place) -> None:
            nonlocal writes
            writes += 1
            if writes == at:
                raise Cut

        before_each_call(controller.journals[SEARCH]._disk, cut)
        try:
            search_all(controller)
        except Cut:
            continue
        break
    assert place > 5
    assert told(controller) == expected


def test_disk_space_counts_what_paused_trials_go_on_from() -> None:
    paused, plain = disk_need(thawing(), 1000, 1), disk_need(empty_plan(report="{top: 3, baselines: []}"), 1000, 1)
    assert paused - SLACK_BYTES >= 1000 * paused_trials.KEPT * 4
    assert paused > plain


def test_several_objectives_are_refused() -> None:
    with pytest.raises(InputError, match="freeze_thaw optimises one objective, got several"):
        thawing(more=", pruner: none, objectives: [{metric: accuracy}, {metric: seconds}]")


def test_what_has_no_effect_is_said() -> None:
    warnings = thawing(more=", pruner: median").warnings
    assert "search.pruner has no effect: freeze_thaw itself decides which trials go on." in warnings
    assert not [each for each in thawing().warnings if "search." in each]
    assert any("the budget allows at most 8 evaluations" in each for each in thawing(trials=2).warnings)
