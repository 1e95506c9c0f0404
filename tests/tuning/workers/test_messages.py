"""Messages are the same after their way as JSON, and what the journal keeps of them stays what it was."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from optuna.samplers import RandomSampler
from optuna.trial import TrialState

from finesearch.plan import Recipe
from finesearch.tuning.messages import Job, TrialCompleted, TrialEvent, TrialFailed, parse_event, parse_job, to_json
from finesearch.tuning.study.journal import Direction, Journal
from finesearch.tuning.study.journaled_trial import JournaledTrial, Outcome, OutcomeDetail
from finesearch.tuning.study.study_storage import open_storage
from trial_reports import GROUP, completed, evaluation


@pytest.mark.parametrize(
    "event",
    [
        evaluation(1, 0.5),
        evaluation(2, math.inf),
        completed(evaluation(1, 0.5)),
        completed(evaluation(1, 0.5), evaluation(2, 0.4)),
        TrialFailed(reason="it broke"),
        TrialFailed(reason="gone", error="DataError", is_fatal=True, **GROUP),
    ],
    ids=str,
)
def test_an_event_is_the_same_after_its_way_as_json(event: TrialEvent) -> None:
    again = parse_event(to_json(event))
    assert (type(again), again) == (type(event), event)


def test_a_metric_that_is_no_number_is_not_told_as_null() -> None:
    again = parse_event(to_json(completed(evaluation(1, 0.5), evaluation(2, math.nan))))
    assert isinstance(again, TrialCompleted)
    assert again.last is not None
    assert math.isnan(again.last.metrics["accuracy"])


def test_a_job_is_the_same_after_its_way_as_json() -> None:
    recipe = Recipe(adaptation="freeze_bottom", adaptation_parameters={"layers": 3}, learning_rate=1e-4)
    job = Job(study="search", number=3, attempt=2, seed=9, recipe=recipe, directory="s3://runs/x", bar=0.5, decided=2)
    assert parse_job(to_json(job)) == job


def test_what_the_journal_keeps_is_flat_json(tmp_path: Path) -> None:
    journal = Journal(open_storage(tmp_path / "study.db"), "study", [Direction("accuracy", True)])
    number = journal.ask(lambda _: {}, RandomSampler(seed=0)).number
    report = evaluation(1, 0.5)
    assert journal.report(number, report, 0.5)
    detail = OutcomeDetail(seconds=1.0, trainable_parameters=1234, **GROUP)
    journal.finish(number, Outcome("pruned", "it stopped", detail=detail))
    (trial,) = journal.study.get_trials()
    kept = trial.user_attrs
    times = {key: kept[key].pop("at") for key in ("step:1", "outcome")}
    assert kept["step:1"] == {**report.model_dump(), "value": 0.5, "go_on": True, "spared": False, "system": {}}
    assert kept["outcome"] == {
        "seconds": 1.0, "trainable_parameters": 1234, **GROUP, "state": "pruned", "values": [0.5],
        "reason": "it stopped",
    }  # fmt: skip
    assert times["step:1"] <= times["outcome"]


def test_a_journal_with_more_and_with_less_is_read(tmp_path: Path) -> None:
    journal = Journal(open_storage(tmp_path / "study.db"), "study", [Direction("accuracy", True)])
    journal.ask(lambda _: {}, RandomSampler(seed=0))
    (trial,) = journal.study.get_trials()
    written = {**evaluation(1, 0.5).model_dump(), "value": 0.5, "go_on": False, "at": 1.0, "new": 1}
    del written["decision"]
    trial.user_attrs["step:1"] = written
    trial.user_attrs["outcome"] = {"state": "failed", "values": None, "reason": "it broke", "new": 1}
    trial.state = TrialState.FAIL
    read = JournaledTrial.read(trial)
    last = read.last
    assert last is not None
    assert (last.step, last.go_on, last.system, last.decision) == (1, False, {}, {})
    assert read.outcome == Outcome("failed", "it broke")
