"""Searches by freeze_thaw: trials are paused and go on, within a budget of epochs, and the same after any kill."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from finesearch.errors import InputError
from finesearch.plan import Plan
from finesearch.run.disk_check import SLACK_BYTES, disk_need
from finesearch.run.open_search import open_search_controller
from finesearch.tuning.controller.search_controller import SEARCH, SearchController
from finesearch.tuning.messages import Job, TrialFailed
from finesearch.tuning.study import paused_trials
from plans import empty_plan
from trial_reports import completed, evaluation
from writes import before_each_call

EPOCHS, TRIALS, STARTUP = 4, 6, 8
ENDS = {"complete", "pruned"}


def thawing(finish_top: int = 0, more: str = "", trials: int = TRIALS) -> Plan:
    return empty_plan(
        space="{learning_rate: {min: 1.0e-5, max: 1.0e-1, log: true}}",
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


def play(controller: SearchController, job: Job, trial_id: str = "t") -> None:
    values = curve(job)
    for step in range(min(job.decided + 1, EPOCHS), EPOCHS + 1):
        report = evaluation(step, values[step - 1], 10.0 * step, epoch=float(step))
        folder = Path(job.directory) / f"step-{step:04d}-a{1 + job.decided}"
        (folder / "resume").mkdir(parents=True, exist_ok=True)
        for inside in (folder, folder / "resume"):
            (inside / "manifest.json").write_text("{}")
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


def test_two_workers_use_the_budget_up_and_no_more(tmp_path: Path) -> None:
    controller = open_search_controller(thawing(), tmp_path, concurrent_trials=2)
    running: dict[str, Job] = {}
    steps: dict[str, int] = {}
    while True:
        for worker in ("t", "u"):
            if worker not in running and (job := controller.next_job(worker)) is not None:
                running[worker], steps[worker] = job, job.decided
        if not running:
            break
        worker = min(running, key=lambda each: (steps[each], each))
        job, steps[worker] = running[worker], steps[worker] + 1
        step, value = steps[worker], curve(running[worker])[steps[worker] - 1]
        report = evaluation(step, value, 10.0 * step, epoch=float(step))
        if step == EPOCHS:
            controller.trial_ended(worker, completed(report, report), False)
        elif controller.evaluation(worker, report):
            continue
        else:
            controller.trial_ended(worker, report, False)
        del running[worker], steps[worker]
    trials = controller.journals[SEARCH].trials()
    assert sum(len(trial.evaluations) for trial in trials) == TRIALS * EPOCHS
    assert controller.is_finished


def test_the_strong_recipe_and_given_configurations_come_first_and_are_counted(tmp_path: Path) -> None:
    controller = open_search_controller(thawing(more=", first: [{learning_rate: 0.05}]"), tmp_path)
    search_all(controller)
    trials = controller.journals[SEARCH].trials()
    assert trials[0].parameters == {"learning_rate": 0.05}
    spread = [math.log10(float(trial.parameters["learning_rate"])) for trial in trials[1 : 1 + STARTUP]]
    assert sorted(int(STARTUP * (each + 5) / 4) for each in spread) == list(range(STARTUP))


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
