"""Stopped trials: ranked by their best checkpoint, gone on with to their end, and finished where that costs less."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import pytest

from cost_examples import minilm_workload
from finesearch.errors import StorageError
from finesearch.plan import Plan
from finesearch.run.build_record import finalist_warnings, stopping_notes, trial_row
from finesearch.run.final_scoring import _checkpoints_to_score
from finesearch.run.open_search import open_search_controller
from finesearch.run.progress import best_so_far, stop_of
from finesearch.training.checkpointing.checkpoint_record import CheckpointRecord
from finesearch.training.model.base_reference import BaseReference
from finesearch.training.trial_types import Evaluation
from finesearch.tuning.controller.search_controller import SEARCH, SearchController
from finesearch.tuning.controller.trial_costs import TrialCosts
from finesearch.tuning.messages import Job, TrialFailed
from finesearch.tuning.study.trial_checkpoints import TrialCheckpoints
from plans import empty_plan
from trial_reports import completed, evaluation
from writes import before_each_call

EPOCHS = 4
CURVES = [(0.5, 0.6, 0.6, 0.6), (0.7, 0.8, 0.8, 0.8), (0.4, 0.9, 0.9, 0.9), (0.6, 0.65, 0.95, 0.7), (0.1,) * 4]
"""Accuracy of each trial by evaluation. By the rule of ``halving`` trials 2 to 4 are stopped after one."""


def halving(budget: str = "{trials: 5}", finish_top: int = 3, top: int = 3) -> Plan:
    search = f"{{pruner: successive_halving, concurrent_trials: 1, startup_trials: 9, finish_top: {finish_top}}}"
    return empty_plan(
        space="{learning_rate: {min: 1.0e-5, max: 1.0e-3, log: true}}",
        training=f"{{epochs: {EPOCHS}}}",
        report=f"{{top: {top}, baselines: []}}",
        search=search,
        budget=budget,
    )


def opened(folder: Path) -> SearchController:
    folder.mkdir(exist_ok=True)
    return open_search_controller(halving(), folder)


def write_checkpoint(job: Job, step: int, resume: bool = False, attempt: int = 1) -> str:
    folder = Path(job.directory) / f"step-{step:04d}-a{attempt}"
    (folder / "resume" if resume else folder).mkdir(parents=True, exist_ok=True)
    (folder / "manifest.json").write_text("{}")
    return str(folder)


def play(controller: SearchController, job: Job, resume: bool = False) -> None:
    """Run a job: each evaluation that is its best leaves a checkpoint."""
    curve = CURVES[job.number]
    # A trial tells its last evaluation with its end, though an earlier driver has judged it.
    for step in range(min(job.decided + 1, EPOCHS), EPOCHS + 1):
        report = evaluation(step, curve[step - 1], 10.0 * step, epoch=float(step))
        best = max(range(step), key=lambda at: (curve[at], -at)) + 1
        path = write_checkpoint(job, best, resume)
        if step == EPOCHS:
            made = completed(evaluation(best, curve[best - 1], 10.0 * best), report, checkpoint=path)
            controller.trial_ended("t", made, False)
        elif not controller.evaluation("t", report):
            controller.trial_ended("t", report, False)
            return


def search_all(controller: SearchController) -> list[tuple[int, int]]:
    """Run the search to its end; number and already decided evaluations of each job."""
    jobs = []
    while (job := controller.next_job("t")) is not None:
        jobs.append((job.number, job.decided))
        play(controller, job)
    return jobs


def ended(controller: SearchController) -> list[tuple[object, ...]]:
    return [
        (trial.number, trial.state, trial.values, [each.value for each in trial.evaluations.values()])
        for trial in controller.journals[SEARCH].trials()
    ]


def ranked(controller: SearchController) -> list[str]:
    return list(_checkpoints_to_score(controller, ()))


def test_a_stopped_trial_ranks_before_worse_ones_that_ran_to_their_end(tmp_path: Path) -> None:
    controller = open_search_controller(halving(finish_top=0, top=2), tmp_path)
    assert search_all(controller) == [(0, 0), (1, 0), (2, 0), (3, 0), (4, 0)]
    states = [trial.state for trial in controller.journals[SEARCH].trials()]
    assert states == ["complete", "complete", "pruned", "pruned", "pruned"]
    # Trial 3 stopped at .6, as good as trial 0 at its end, which was first.
    assert ranked(controller) == ["trial-0001", "trial-0000"]
    assert controller.next_job("t") is None
    assert controller.is_finished


def test_the_bar_and_the_disk_count_stopped_trials(tmp_path: Path) -> None:
    controller = open_search_controller(halving("{trials: 9}", finish_top=0, top=2), tmp_path)
    bars = []
    for accuracy in (0.9, 0.5, 0.6, 0.3):
        job = controller.next_job("t")
        assert job is not None
        assert job.may_be_stopped
        bars.append(job.bar)
        write_checkpoint(job, 1, resume=True)
        report = evaluation(1, accuracy)
        assert controller.evaluation("t", report) == (accuracy == 0.9)
        controller.trial_ended("t", report, False)
    assert bars == [None, None, 0.5, 0.6]
    left = {
        path.name: [inner.name for inner in (path / "step-0001-a1").iterdir()] for path in tmp_path.glob("*/trial-*")
    }
    # Nothing goes on, so no state to go on from stays.
    assert left == {"trial-0000": ["manifest.json"], "trial-0002": ["manifest.json"]}
    assert ranked(controller) == ["trial-0000", "trial-0002"]


def test_the_best_checkpoint_of_a_stopped_trial_counts_and_not_its_last_evaluation(tmp_path: Path) -> None:
    controller = open_search_controller(halving(), tmp_path)
    job = controller.next_job("t")
    assert job is not None
    path = write_checkpoint(job, 2, attempt=2)
    write_checkpoint(job, 2)
    (Path(job.directory) / "step-0003-a2").mkdir()  # as an object store shows one that is not complete
    for step, accuracy in ((1, 0.5), (2, 0.7), (3, 0.9), (4, 0.6)):
        controller.evaluation("t", evaluation(step, accuracy, epoch=float(step)))
    controller.stop_reason = "the budget of 1 hours is spent"
    controller.trial_ended("t", evaluation(4, 0.6, epoch=4.0), False)
    trial = controller.journals[SEARCH].get(0)
    assert (trial.detail.best.step, trial.detail.checkpoint) == (2, path)
    row = trial_row(controller, trial)
    assert (row.state, row.value, row.best, row.stopped_at, row.evaluations) == ("pruned", 0.6, 0.7, 4, 4)
    best = best_so_far(controller.journals[SEARCH])
    assert best is not None
    assert stop_of(best, controller.plan) == "stopped at evaluation 4 of 4"
    assert controller.finalists_left_stopped() == {}, "it has come to its end"
    assert best_so_far(controller.journals[SEARCH], is_complete=True) is None


def test_finalists_go_on_to_their_end_and_are_no_new_trials(tmp_path: Path) -> None:
    controller = open_search_controller(halving(), tmp_path)
    # After five trials .8, .6 and .6 lead; the third of them was stopped, and goes on.
    assert search_all(controller) == [(0, 0), (1, 0), (2, 0), (3, 0), (4, 0), (3, 1)]
    assert controller.is_finished
    journal = controller.journals[SEARCH]
    assert journal.counts() == {"complete": 3, "pruned": 2, "failed": 0, "running": 0}
    assert ranked(controller) == ["trial-0003", "trial-0001", "trial-0000"]
    trial = journal.get(3)
    assert (trial.values, trial.detail.best.step) == ((0.95,), 3)
    assert [each.go_on for each in trial.evaluations.values()] == [True] * 4
    assert journal.study.get_trials()[3].state.name == "PRUNED", "samplers see what it was stopped with"
    assert trial_row(controller, trial).stopped_at is None
    assert "Trial 3 had been stopped early, and went on" in stopping_notes(controller.plan, journal)[-1]
    assert finalist_warnings(controller) == []
    again = open_search_controller(halving(), tmp_path)
    assert again.is_finished
    assert ended(again) == ended(controller)


def test_a_finalist_resumes_with_its_own_folder_and_no_bar(tmp_path: Path) -> None:
    controller = open_search_controller(halving(), tmp_path)
    for _ in range(5):
        first = controller.next_job("t")
        assert first is not None
        play(controller, first, resume=True)
    assert (tmp_path / "checkpoints" / "trial-0003" / "step-0001-a1" / "resume").is_dir()
    assert not controller.is_finished
    assert controller.trials_left == 1
    job = controller.next_job("t")
    assert job is not None
    assert (job.number, job.decided, job.bar) == (3, 1, None)
    assert Path(job.directory).name == "trial-0003"
    assert not controller.is_finished
    assert controller.next_job("u") is None


class Cut(BaseException):
    """A driver's death."""


def test_a_driver_killed_before_any_write_ends_with_the_same_trials(tmp_path: Path) -> None:
    whole = opened(tmp_path / "whole")
    search_all(whole)
    expected = ended(whole)
    assert [row[1] for row in expected] == ["complete", "complete", "pruned", "complete", "pruned"]
    folder, place = tmp_path / "cut", 0
    while True:
        # Each driver dies one write later than the one before it; what was written stays.
        controller, place, writes = opened(folder), place + 1, 0

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
    assert ended(controller) == expected


def test_a_finalist_that_fails_stays_as_it_was_stopped(tmp_path: Path) -> None:
    controller = open_search_controller(halving(), tmp_path)
    for _ in range(5):
        job = controller.next_job("t")
        assert job is not None
        play(controller, job)
    assert controller.next_job("t")
    assert controller.evaluation("t", evaluation(2, 0.65, epoch=2.0))
    controller.trial_ended("t", TrialFailed(reason="the training loss became nan", error="DivergedError"), False)
    trial = controller.journals[SEARCH].get(3)
    assert (trial.state, trial.detail.best.step) == ("pruned", 1)
    reason = "pruned by successive_halving at evaluation 1; going on with it failed: the training loss became nan"
    assert trial.outcome.reason == reason
    assert controller.journals[SEARCH].counts() == {"complete": 2, "pruned": 3, "failed": 0, "running": 0}
    assert controller.is_finished, "it is not tried again"
    assert ranked(controller) == ["trial-0001", "trial-0000", "trial-0003"]
    assert finalist_warnings(controller) == [
        "Trial 3 is among the best 3 and stays stopped, at evaluation 2 of 4: the training loss became nan."
    ]


def test_a_finalist_that_a_spent_budget_stops_goes_on_once_more_when_it_is_raised(tmp_path: Path) -> None:
    controller = open_search_controller(halving(), tmp_path)
    for _ in range(6):
        job = controller.next_job("t")
        assert job is not None
        if job.decided == 0:
            play(controller, job)
    write_checkpoint(job, 2, attempt=2)
    controller.stop_reason = "the budget of 1 hours is spent"
    assert not controller.evaluation("t", evaluation(2, 0.65, 20.0, epoch=2.0))
    controller.trial_ended("t", evaluation(2, 0.65, 20.0, epoch=2.0), False)
    trial = controller.journals[SEARCH].get(3)
    assert trial.outcome.reason == "stopped at evaluation 2: the budget of 1 hours is spent"
    assert Path(str(trial.detail.checkpoint)).name == "step-0002-a2"
    assert ranked(controller) == ["trial-0001", "trial-0003", "trial-0000"]
    (said,) = finalist_warnings(controller)
    assert said.endswith("stays stopped, at evaluation 2 of 4: the budget of 1 hours is spent.")
    again = open_search_controller(halving(), tmp_path)
    assert search_all(again) == [(3, 2)]
    assert ended(again)[3] == (3, "complete", (0.95,), list(CURVES[3]))


@pytest.mark.parametrize("budget", ["hours: 0.0001", "device_hours: 0.035", "cost: {per_device_hour: 2, most: 0.07}"])
def test_a_budget_that_is_too_short_leaves_finalists_stopped_and_says_so(budget: str, tmp_path: Path) -> None:
    controller = open_search_controller(halving(), tmp_path)
    for _ in range(5):
        job = controller.next_job("t")
        assert job is not None
        play(controller, job)
    plan = halving(f"{{trials: 5, {budget}}}")
    short = open_search_controller(plan, tmp_path)
    short.set_trial_costs(TrialCosts(plan, minilm_workload()))
    assert short.next_job("t") is None
    assert short.is_finished
    (said,) = finalist_warnings(short)
    assert said.startswith("Trial 3 is among the best 3 and stays stopped, at evaluation 1 of 4: ")
    assert "its end would take an estimated 30 s" in said or "30 s, and" in said
    wide = open_search_controller(halving("{trials: 5, hours: 9}"), tmp_path)
    wide.set_trial_costs(TrialCosts(plan, minilm_workload()))
    job = wide.next_job("t")
    assert job is not None
    assert job.number == 3


@pytest.mark.parametrize("start_s", [0.0, 15.0])
def test_a_trial_whose_end_costs_no_more_than_another_start_is_finished(start_s: float, tmp_path: Path) -> None:
    plan = empty_plan(
        space="{learning_rate: {min: 1.0e-5, max: 1.0e-3, log: true}}",
        training=f"{{epochs: {EPOCHS}}}",
        search="{pruner: median, startup_trials: 1, min_evaluations: 2, concurrent_trials: 1}",
        report="{baselines: []}",
    )
    controller = open_search_controller(plan, tmp_path)
    controller.set_trial_costs(TrialCosts(plan, minilm_workload()))
    verdicts: dict[int, list[bool]] = {}
    for curve in ((0.5, 0.6, 0.7, 0.8), (0.5, 0.6, 0.2, 0.3), (0.5, 0.1)):
        job = controller.next_job("t")
        assert job is not None
        for step, accuracy in enumerate(curve, start=1):
            began = time.time() - start_s - 10.0 * step
            report = evaluation(step, accuracy, 10.0 * step, epoch=float(step), began=began)
            if step == EPOCHS:
                controller.trial_ended("t", completed(report, report), False)
            else:
                verdicts.setdefault(job.number, []).append(controller.evaluation("t", report))
        if len(curve) < EPOCHS:
            controller.trial_ended("t", report, False)
    # At its third evaluation trial 1 had 10 s left, as long as another trains up to its first; trial 2 had 20 s left.
    assert verdicts == {0: [True, True, True], 1: [True, True, True], 2: [True, start_s == 15.0]}
    if start_s:
        return
    trials = controller.journals[SEARCH].trials()
    assert [each.spared for each in trials[1].evaluations.values()] == [False, False, True, True]
    assert [trial.state for trial in trials] == ["complete", "complete", "pruned"]
    (note,) = stopping_notes(plan, controller.journals[SEARCH])
    assert note.startswith("Trial 1 went on although search.pruner rejected a value")


def test_a_trial_of_a_driver_killed_past_the_budget_counts_by_what_it_left(tmp_path: Path) -> None:
    plan = halving("{trials: 5, hours: 1}")
    controller = open_search_controller(plan, tmp_path)
    while True:
        job = controller.next_job("t")
        assert job is not None
        if controller.journals[SEARCH].get(job.number).stopped is not None:
            break
        play(controller, job, resume=True)
    # The finalist's new attempt has a better checkpoint, and has deleted the one before; then its driver is killed.
    newer = write_checkpoint(job, job.decided + 1, True, attempt=2)
    shutil.rmtree(Path(job.directory) / "step-0001-a1")
    controller.evaluation("t", evaluation(job.decided + 1, 0.91, 25.0, epoch=float(job.decided + 1)))
    controller.usage._before += 3601
    controller.usage.persist(force=True)
    read = open_search_controller(plan, tmp_path, read_only=True)
    assert read.journals[SEARCH].get(job.number).state == "running"
    again = open_search_controller(plan, tmp_path)
    assert again.is_finished
    trial = again.journals[SEARCH].get(job.number)
    assert (trial.state, trial.detail.checkpoint, again.next_job("t")) == ("pruned", newer, None)
    assert trial.outcome is not None
    assert trial.outcome.reason == "stopped at evaluation 2: the budget of 1 hours is spent"
    assert ranked(again)[0] == "trial-0003"


def test_a_store_that_does_not_answer_ends_the_driver_and_fails_no_trial(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    controller = opened(tmp_path)
    for _ in range(2):
        first = controller.next_job("t")
        assert first is not None
        play(controller, first)
    job = controller.next_job("t")
    assert job is not None
    path, report = write_checkpoint(job, 1), evaluation(1, 0.4, epoch=1.0)
    assert not controller.evaluation("t", report)
    with monkeypatch.context() as broken:
        broken.setattr(TrialCheckpoints, "first_of", _refuses)
        controller.trial_ended("t", report, False)
    assert controller.fatal is not None
    assert "expired" in controller.fatal.message
    assert controller.next_job("t") is None
    trial = opened(tmp_path).journals[SEARCH].get(2)
    assert (trial.state, trial.detail.checkpoint) == ("pruned", path)


def _refuses(*_: object) -> None:
    raise StorageError("s3://bucket/run: the token has expired")


def test_a_checkpoint_of_a_step_that_was_trained_again_counts_by_what_itself_scored(tmp_path: Path) -> None:
    plan = halving("{trials: 5, hours: 1}")
    controller = open_search_controller(plan, tmp_path)
    job = controller.next_job("t")
    assert job is not None
    for step, accuracy in ((1, 0.5), (2, 0.9)):
        controller.evaluation("t", evaluation(step, accuracy, epoch=float(step)))
    again = open_search_controller(plan, tmp_path)
    job = again.next_job("t")
    assert job is not None
    folder = Path(write_checkpoint(job, 2, attempt=2))
    scored = {name: getattr(evaluation(2, 0.85, epoch=2.0), name) for name in Evaluation.model_fields}
    CheckpointRecord(
        base=BaseReference(model="m", revision=None, folder="m", sha256="0"),
        kind="text-classification", facts={}, trial=0, attempt=2, seed=job.seed, recipe=job.recipe, metric="accuracy",
        goal="max", history=(Evaluation(**scored),), trained=(), trainable_parameters=1, total_parameters=1,
        zero_stage=0, workers=1, precision="fp32", versions={},
    ).write(folder)  # fmt: skip
    again.evaluation("t", evaluation(3, 0.8, epoch=3.0))
    again.stop_reason = "the budget of 1 hours is spent"
    again.trial_ended("t", evaluation(3, 0.8, epoch=3.0), False)
    trial = again.journals[SEARCH].get(0)
    assert trial.detail.best is not None
    assert (trial.detail.best.metrics["accuracy"], trial.detail.checkpoint) == (0.85, str(folder))
