"""Decisions reach the disk one transaction each, as the rows that Optuna itself would have written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial, TrialState

from finesearch.tuning.samplers.sampler_factory import make_pruner, make_sampler
from finesearch.tuning.study import journal as journals
from finesearch.tuning.study.journal import Direction, Journal
from finesearch.tuning.study.study_storage import open_storage
from finesearch.tuning.study.study_writer import OptunaApiStudyWriter, SqlStudyWriter, make_study_writer
from finesearch.tuning.study.trial_attributes import (
    JournaledEvaluation,
    Outcome,
    OutcomeDetail,
    journaled_evaluations,
)
from plans import empty_plan
from trial_reports import evaluation
from writes import before_each_change


def ended(last: JournaledEvaluation) -> Outcome:
    return Outcome("complete", None, (last.value,)) if last.go_on else Outcome("pruned", "stopped")


def search(storage: RDBStorage) -> Journal:
    """Trials of every state: some stopped by the pruner, one failed, one still running; the third was given."""
    plan = empty_plan(search="{pruner: successive_halving, startup_trials: 2}")
    journal = Journal(storage, "study", [Direction("accuracy", True)], make_pruner(plan, 4))
    for number in range(8):
        first = {"learning_rate": 1e-4, "adaptation": "full"} if number == 2 else None
        trial = journal.ask(plan.space.suggest, make_sampler(plan, number, 2), first, {"note": number})
        for step in (1, 2, 3):
            value = (number * 7 % 5) / 5 + step / 100
            if step == 3 and number in (3, 5, 6):
                journal.report(number, evaluation(step, value), value, end=ended)
                break
            if not journal.report(number, evaluation(step, value), value, is_prunable=number != 4):
                journal.finish(number, Outcome("pruned", "stopped"))
                break
        else:
            if number == 4:
                journal.finish(number, Outcome("failed", "it broke"))
            elif number != 7:
                journal.finish(number, Outcome("complete", None, (value,), OutcomeDetail(trainable_parameters=3)))
        assert trial.number == number
    return journal


def told(trial: FrozenTrial) -> dict[str, Any]:
    """All that is on disk of a trial, but for its times."""
    attrs = {
        key: {name: said for name, said in value.items() if name != "at"} if isinstance(value, dict) else value
        for key, value in trial.user_attrs.items()
    }
    times = (trial.datetime_start is None, trial.datetime_complete is None)
    return {**trial.__dict__, "_user_attrs": attrs, "_datetime_start": times[0], "datetime_complete": times[1]}


def test_optuna_reads_what_it_would_have_written_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = {}
    for name, writer in (("ours", make_study_writer), ("optuna's", OptunaApiStudyWriter)):
        monkeypatch.setattr(journals, "make_study_writer", writer)
        storage = open_storage(tmp_path / f"{name}.db")
        search(storage)
        study = optuna.load_study(study_name="study", storage=f"sqlite:///{tmp_path / name}.db")
        found[name] = [told(trial) for trial in study.get_trials()]
        times = [(t.datetime_start, t.datetime_complete) for t in study.get_trials() if t.datetime_complete]
        assert all(0 <= (end - begin).total_seconds() < 60 for begin, end in times if begin)
    assert found["ours"] == found["optuna's"]
    states = {trial["state"] for trial in found["ours"]}
    assert states == {TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL, TrialState.RUNNING}


def test_each_decision_is_one_transaction(tmp_path: Path) -> None:
    storage = open_storage(tmp_path / "study.db")
    assert isinstance(make_study_writer(storage), SqlStudyWriter)
    plan = empty_plan()
    journal = Journal(storage, "study", [Direction("accuracy", True)], make_pruner(plan, 4))
    commits: list[str] = []
    before_each_change(storage, lambda text: commits.append(text) if text == "COMMIT" else None)
    counted = []
    journal.ask(plan.space.suggest, make_sampler(plan, 0, 1))
    counted.append(len(commits))
    journal.report(0, evaluation(1, 0.5), 0.5)
    counted.append(len(commits))
    journal.report(0, evaluation(2, 0.6), 0.6, end=ended)
    counted.append(len(commits))
    assert counted == [1, 2, 3]
    (read,) = storage.get_all_trials(journal._study_id)
    assert read.intermediate_values == {1: 0.5, 2: 0.6}
    assert sorted(journaled_evaluations(read)) == [1, 2]


def test_what_a_driver_left_half_written_is_replaced(tmp_path: Path) -> None:
    storage = open_storage(tmp_path / "study.db")
    plan = empty_plan()
    journal = Journal(storage, "study", [Direction("accuracy", True)], make_pruner(plan, 4))
    trial = journal.ask(plan.space.suggest, make_sampler(plan, 0, 1))
    # As versions before left it that took two writes for an evaluation.
    storage.set_trial_intermediate_value(trial._trial_id + 1, 1, 0.1)
    again = Journal(storage, "study", [Direction("accuracy", True)], make_pruner(plan, 4))
    assert again.get(0).intermediate_values == {}
    again.report(0, evaluation(1, 0.7), 0.7)
    (read,) = storage.get_all_trials(again._study_id)
    assert read.intermediate_values == {1: 0.7}


def test_in_memory_a_study_is_told_the_same() -> None:
    storage = optuna.storages.InMemoryStorage()
    assert isinstance(make_study_writer(storage), OptunaApiStudyWriter)
