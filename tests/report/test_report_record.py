"""What a record accepts, and that it keeps what it was given."""

from dataclasses import dataclass

import pytest
from pydantic import ValidationError
from report_records import search_record

from finesearch.report import ObjectiveRow, RunRecord, StepRow, TrialRow


def test_a_record_survives_json():
    record = search_record(trials=30)
    assert RunRecord.model_validate_json(record.model_dump_json()) == record


def test_numbers_that_are_not_finite_become_none():
    row = TrialRow(
        trial=0,
        state="failed",
        values=[float("inf")],
        history=[StepRow(step=1, value=float("nan"), metrics={"mcc": float("-inf")}, train_loss=float("nan"))],
    )
    assert row.values == (None,)
    assert row.history[0].value is None
    assert row.history[0].metrics == {"mcc": None}


def test_lists_are_kept_as_tuples_so_that_a_frozen_record_cannot_change():
    notes = ["cut from train"]
    record = RunRecord(name="a", metric="accuracy", goal="max", notes=notes)
    notes.append("later")
    assert record.notes == ("cut from train",)
    with pytest.raises(ValidationError, match="frozen"):
        record.name = "b"  # type: ignore[misc]


def test_objectives_of_another_floor_are_taken_by_their_attributes():
    @dataclass(frozen=True)
    class Objective:
        name: str
        goal: str

    record = RunRecord(name="a", metric="accuracy", goal="max", objectives=[Objective("accuracy", "max")])
    assert record.objectives == (ObjectiveRow(name="accuracy", goal="max"),)


def test_a_trial_must_have_one_value_an_objective():
    objectives = [ObjectiveRow(name="accuracy", goal="max"), ObjectiveRow(name="seconds", goal="min")]
    with pytest.raises(ValidationError, match="trial 4: expected 2 values, one an objective, got 1"):
        RunRecord(
            name="a",
            metric="accuracy",
            goal="max",
            objectives=objectives,
            trials=[TrialRow(trial=4, state="complete", values=[0.5])],
        )


def test_an_unknown_key_is_refused():
    with pytest.raises(ValidationError, match="validaton"):
        RunRecord(name="a", metric="accuracy", goal="max", validaton=0.1)


def test_the_value_of_an_unfinished_trial_is_its_last_evaluation():
    history = [StepRow(step=1, value=0.5), StepRow(step=2, value=0.6), StepRow(step=3, value=None)]
    assert TrialRow(trial=0, state="pruned", history=history).value == 0.6
    assert TrialRow(trial=0, state="running").value is None
    assert TrialRow(trial=0, state="complete", values=[0.4], history=history).value == 0.4
