"""A decision whose driver died half-way was taken or was not, and Optuna reads all that is on disk."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.exceptions import StorageInternalError
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, TrialState

from finesearch.errors import RunConflictError
from finesearch.plan import Plan
from finesearch.tuning.samplers.sampler_factory import make_pruner, make_sampler
from finesearch.tuning.study.journal import Direction, Journal
from finesearch.tuning.study.journaled_trial import JournaledEvaluation, Outcome, OutcomeDetail, journaled_evaluations
from finesearch.tuning.study.study_storage import open_storage
from plans import empty_plan
from trial_reports import evaluation
from writes import before_each_call, before_each_change

ACCURACY = [Direction("accuracy", True)]


def open_journal(storage: BaseStorage, plan: Plan) -> Journal:
    return Journal(storage, "study", ACCURACY, make_pruner(plan, 4))


def on_disk(storage: BaseStorage) -> list[FrozenTrial]:
    return storage.get_all_trials(storage.get_study_id_from_name("study"))


def first_id(storage: BaseStorage) -> int:
    return storage.get_trial_id_from_study_id_trial_number(storage.get_study_id_from_name("study"), 0)


def ended(last: JournaledEvaluation) -> Outcome:
    """What a trial comes to by the verdict on its last evaluation."""
    return Outcome("complete", None, (last.value,)) if last.go_on else Outcome("pruned", "stopped")


def search(storage: BaseStorage) -> Journal:
    """Trials of every state: some stopped by the pruner, one failed, one still running; the third was given."""
    plan = empty_plan(search="{pruner: successive_halving, startup_trials: 2}")
    journal = open_journal(storage, plan)
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
    """All that is on disk of a trial, but for its times and its id."""
    attrs = {
        key: {name: said for name, said in value.items() if name != "at"} if isinstance(value, dict) else value
        for key, value in trial.user_attrs.items()
    }
    times = (trial.datetime_start is None, trial.datetime_complete is None)
    said = {"_user_attrs": attrs, "_datetime_start": times[0], "datetime_complete": times[1], "_trial_id": None}
    return {**trial.__dict__, **said}


def test_optuna_reads_from_disk_what_was_told_in_memory(tmp_path: Path) -> None:
    memory = optuna.storages.InMemoryStorage()
    search(memory)
    search(open_storage(tmp_path / "study.db"))
    read = optuna.load_study(study_name="study", storage=f"sqlite:///{tmp_path}/study.db").get_trials()
    assert [told(trial) for trial in read] == [told(trial) for trial in on_disk(memory)]
    assert {trial.state for trial in read} == {
        TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL, TrialState.RUNNING,
    }  # fmt: skip
    times = [(trial.datetime_start, trial.datetime_complete) for trial in read if trial.datetime_complete]
    assert all(0 <= (end - begin).total_seconds() < 60 for begin, end in times if begin)


class Cut(Exception):  # noqa: N818 - it stands for a death, not for an error
    """Stands for the driver's death."""


def run(storage: BaseStorage, plan: Plan) -> None:
    """Four trials, or the rest of them: every second one tells its last evaluation with its end."""
    journal = open_journal(storage, plan)
    running = [trial.number for trial in journal.running()]
    for number in [*running, *range(len(journal.trials()), 4)]:
        if number not in running:
            journal.ask(plan.space.suggest, make_sampler(plan, number, 1))
        for step in (1, 2, 3):
            value, is_told_at_the_end = (5 - number + step) / 10, step == 3 and number % 2
            end = ended if is_told_at_the_end else None
            go_on = journal.report(number, evaluation(step, value), value, end=end)
            if not go_on:
                journal.finish(number, Outcome("pruned", "stopped"))
                break
            if step == 3:
                journal.finish(number, Outcome("complete", None, (value,)))


def test_a_search_that_is_cut_off_before_any_call_ends_like_an_undisturbed_one() -> None:
    plan = empty_plan(search="{sampler: tpe, pruner: successive_halving, startup_trials: 2}")
    calls: list[str] = []
    undisturbed = optuna.storages.InMemoryStorage()
    before_each_call(undisturbed, calls.append)
    run(undisturbed, plan)
    expected = [told(trial) for trial in on_disk(undisturbed)]
    assert {trial["state"] for trial in expected} == {TrialState.COMPLETE, TrialState.PRUNED}
    for number, name in enumerate(calls):
        made: list[str] = []

        def cut(call: str, made: list[str] = made, number: int = number) -> None:
            made.append(call)
            if len(made) == number + 1:
                raise Cut(call)

        storage = optuna.storages.InMemoryStorage()
        before_each_call(storage, cut)
        with pytest.raises(Cut, match=name):
            run(storage, plan)
        run(storage, plan)
        assert [told(trial) for trial in on_disk(storage)] == expected, f"cut before call {number}: {name}"


def test_a_new_trial_is_one_transaction(tmp_path: Path) -> None:
    storage, plan = open_storage(tmp_path / "study.db"), empty_plan()
    journal = open_journal(storage, plan)
    told: list[str] = []
    before_each_change(storage, told.append)
    journal.ask(plan.space.suggest, make_sampler(plan, 0, 1))
    first_commit = told.index("COMMIT")
    assert first_commit > 1
    assert set(told[first_commit:]) == {"COMMIT"}, "what follows only reads"


def test_the_last_evaluation_is_written_with_the_end(tmp_path: Path) -> None:
    storage, plan = open_storage(tmp_path / "study.db"), empty_plan()
    journal = open_journal(storage, plan)
    journal.ask(plan.space.suggest, make_sampler(plan, 0, 1))
    journal.report(0, evaluation(1, 0.5), 0.5)
    journal.report(0, evaluation(2, 0.6), 0.6, end=ended)
    (read,) = on_disk(storage)
    assert (read.state, read.values) == (TrialState.COMPLETE, [0.6])
    assert read.intermediate_values == {1: 0.5, 2: 0.6}
    assert sorted(journaled_evaluations(read)) == [1, 2]


def test_an_evaluation_that_was_not_decided_is_replaced(tmp_path: Path) -> None:
    storage, plan = open_storage(tmp_path / "study.db"), empty_plan()
    open_journal(storage, plan).ask(plan.space.suggest, make_sampler(plan, 0, 1))
    storage.set_trial_intermediate_value(first_id(storage), 1, 0.1)
    again = open_journal(storage, plan)
    assert again.study.get_trials()[0].intermediate_values == {}
    again.report(0, evaluation(1, 0.7), 0.7)
    (read,) = on_disk(storage)
    assert read.intermediate_values == {1: 0.7}


def test_an_evaluation_that_was_not_decided_is_never_told_of_a_trial_that_ended(tmp_path: Path) -> None:
    storage, plan = open_storage(tmp_path / "study.db"), empty_plan()
    open_journal(storage, plan).ask(plan.space.suggest, make_sampler(plan, 0, 1))
    storage.set_trial_intermediate_value(first_id(storage), 1, 0.1)
    open_journal(storage, plan).finish(0, Outcome("failed", "it broke"))
    assert open_journal(storage, plan).study.get_trials()[0].intermediate_values == {}


def test_an_end_that_was_decided_is_finished_on_disk_too(tmp_path: Path) -> None:
    storage, plan = open_storage(tmp_path / "study.db"), empty_plan()
    journal = open_journal(storage, plan)
    journal.ask(plan.space.suggest, make_sampler(plan, 0, 1))

    def cut(name: str) -> None:
        if name == "set_trial_state_values":
            raise Cut

    before_each_call(storage, cut)
    with pytest.raises(Cut):
        journal.finish(0, Outcome("complete", None, (0.6,)))
    again = open_storage(tmp_path / "study.db")
    assert open_journal(again, plan).counts() == {"complete": 1, "pruned": 0, "failed": 0, "running": 0}
    (read,) = on_disk(again)
    assert (read.state, read.values) == (TrialState.COMPLETE, [0.6])
    assert read.datetime_complete is not None


def test_a_trial_that_the_database_numbers_otherwise_is_refused(tmp_path: Path) -> None:
    storage, plan = open_storage(tmp_path / "study.db"), empty_plan()
    journal = open_journal(storage, plan)
    storage.create_new_trial(storage.get_study_id_from_name("study"))
    with pytest.raises(StorageInternalError, match="trial 0 was given another number"):
        journal.ask(plan.space.suggest, make_sampler(plan, 0, 1))


def test_whoever_only_reads_a_study_changes_nothing_of_it(tmp_path: Path) -> None:
    storage, plan = open_storage(tmp_path / "study.db"), empty_plan()
    journal = open_journal(storage, plan)
    journal.ask(plan.space.suggest, make_sampler(plan, 0, 1))

    def cut(name: str) -> None:
        if name == "set_trial_state_values":
            raise Cut

    before_each_call(storage, cut)
    with pytest.raises(Cut):
        journal.finish(0, Outcome("complete", None, (0.6,)))
    again = open_storage(tmp_path / "study.db")
    read_only = Journal(again, "study", ACCURACY, make_pruner(plan, 4), read_only=True)
    assert read_only.get(0).values == (0.6,)
    (left,) = on_disk(again)
    assert left.state is TrialState.RUNNING


def test_a_trial_that_another_program_has_ended_is_a_storage_error(tmp_path: Path) -> None:
    storage, plan = open_storage(tmp_path / "study.db"), empty_plan()
    journal = open_journal(storage, plan)
    journal.ask(plan.space.suggest, make_sampler(plan, 0, 1))
    storage.set_trial_state_values(first_id(storage), TrialState.FAIL)
    with pytest.raises(StorageInternalError, match="another program has ended a trial of this run"):
        journal.report(0, evaluation(1, 0.5), 0.5)
    with pytest.raises(StorageInternalError, match="another program has ended a trial of this run"):
        journal.finish(0, Outcome("failed", "it broke"))


def test_a_study_that_was_deleted_meanwhile_is_a_storage_error(tmp_path: Path) -> None:
    storage, plan = open_storage(tmp_path / "study.db"), empty_plan()
    journal = open_journal(storage, plan)
    journal.ask(plan.space.suggest, make_sampler(plan, 0, 1))
    optuna.delete_study(study_name="study", storage=f"sqlite:///{tmp_path}/study.db")
    with pytest.raises(StorageInternalError, match="was deleted by another program"):
        journal.report(0, evaluation(1, 0.5), 0.5)
    with pytest.raises(StorageInternalError, match="was deleted by another program"):
        journal.ask(plan.space.suggest, make_sampler(plan, 1, 1))


def test_a_study_of_a_version_that_kept_less_is_refused_with_what_to_do(tmp_path: Path) -> None:
    storage, plan = open_storage(tmp_path / "study.db"), empty_plan()
    open_journal(storage, plan).ask(plan.space.suggest, make_sampler(plan, 0, 1))
    storage.set_trial_user_attr(first_id(storage), "step:1", {"step": 1, "value": 0.5, "go_on": True})
    with pytest.raises(RunConflictError, match=r"trial 0: it was journaled by another version.*--fresh"):
        open_journal(storage, plan)
