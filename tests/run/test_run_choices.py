"""What `auto` became when a run began is what it stays."""

from __future__ import annotations

from pathlib import Path

import pytest

from finesearch.errors import RunConflictError
from finesearch.run.identity.begun_plan import RunChoices, read_begun_plan, read_choices, resumed_plan, write_plan
from finesearch.run.run_storage import PLAN, RunStorage
from plan_examples import made


@pytest.fixture
def run_storage(tmp_path: Path) -> RunStorage:
    return RunStorage("tiny", tmp_path)


def test_a_run_that_began_in_bf16_stays_in_bf16(run_storage: RunStorage) -> None:
    assert read_begun_plan(run_storage) is None
    choices = RunChoices(("precision auto: bf16; measured.",), ("10.0.0.1",))
    write_plan(made(training={"precision": "bf16"}), choices, run_storage)
    begun = read_begun_plan(run_storage)
    assert begun is not None
    assert resumed_plan(made(training={"precision": "auto"}), begun, run_storage).training.precision == "bf16"
    assert read_choices(run_storage) == choices
    with pytest.raises(RunConflictError, match='training.precision: "fp32", was "bf16"'):
        resumed_plan(made(training={"precision": "fp32"}), begun, run_storage)


def test_a_run_of_an_older_version_goes_on_by_the_flags_that_it_went_by(run_storage: RunStorage) -> None:
    (run_storage.folder / PLAN).write_text(made(training={"precision": "auto"}).to_yaml())
    begun = read_begun_plan(run_storage)
    assert begun is not None
    assert resumed_plan(made(), begun, run_storage).training.precision == "auto"
    assert read_choices(run_storage) == RunChoices()
