"""The study's copy in storage: whatever this machine loses, no finished trial is lost, and the newer study wins."""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from finesearch.errors import StorageError
from finesearch.plan import Plan
from finesearch.storage.local_store import LocalStore
from finesearch.storage.object_store import ObjectStore
from finesearch.storage.store import Store
from finesearch.tuning.samplers.sampler_factory import make_pruner, make_sampler
from finesearch.tuning.study import study_backup as backup_module
from finesearch.tuning.study.checkpoint_retention import CheckpointRetention
from finesearch.tuning.study.journal import Direction, Journal
from finesearch.tuning.study.journaled_trial import Outcome, OutcomeDetail
from finesearch.tuning.study.study_backup import StudyBackup
from finesearch.tuning.study.study_storage import open_storage
from object_stores import BUCKET, s3_bucket
from plans import empty_plan

PLAN = empty_plan()


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with s3_bucket() as options:
        yield options


@pytest.fixture(params=["folder", "object store"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    if request.param == "folder":
        (tmp_path / "shared").mkdir()
        return LocalStore(tmp_path / "shared")
    name = request.node.name.replace("[", "-").replace("]", "").replace(" ", "-")
    return ObjectStore(f"s3://{BUCKET}/{name}?{request.getfixturevalue('server')}")


def journal_of(path: Path, plan: Plan = PLAN) -> Journal:
    journal = Journal(open_storage(path), plan.name, [Direction("accuracy", True)], make_pruner(plan, 4))
    let_go(journal)
    return journal


def let_go(journal: Journal) -> None:
    """Close the database, as the end of a driver does; it opens again when it is written."""
    journal._disk.engine.dispose()


def run_trials(journal: Journal, count: int) -> None:
    for _ in range(count):
        number = journal.ask(PLAN.space.suggest, make_sampler(PLAN, len(journal.trials()), 1)).number
        journal.finish(
            number, Outcome("complete", values=(0.5 + number / 100,), detail=OutcomeDetail(trainable_parameters=1))
        )
    let_go(journal)


def told(journal: Journal) -> list[tuple[int, tuple[float, ...] | None]]:
    return [(trial.number, trial.values) for trial in journal.trials()]


def test_a_lost_disk_loses_no_trial_that_was_kept(storage: Store, tmp_path: Path) -> None:
    backup = StudyBackup(tmp_path / "head", storage)
    backup.fetch()
    journal = journal_of(backup.path)
    run_trials(journal, 3)
    backup.persist()
    shutil.rmtree(tmp_path / "head")
    other = StudyBackup(tmp_path / "another head", storage)
    other.fetch()
    again = journal_of(other.path)
    assert told(again) == told(journal)
    assert [trial.parameters for trial in again.trials()] == [trial.parameters for trial in journal.trials()]


def test_what_this_machine_wrote_after_the_copy_is_gone_on_with(storage: Store, tmp_path: Path) -> None:
    for count in (2, 1):
        backup = StudyBackup(tmp_path / "head", storage)
        backup.fetch()
        journal = journal_of(backup.path)
        run_trials(journal, count)
        backup.persist()
        run_trials(journal, 1)  # told, and the driver dies before the next copy
    last = StudyBackup(tmp_path / "head", storage)
    last.fetch()
    assert len(journal_of(last.path).trials()) == 5


def test_what_another_machine_went_on_with_is_fetched_and_the_old_one_set_aside(storage: Store, tmp_path: Path) -> None:
    first = StudyBackup(tmp_path / "first", storage)
    first.fetch()
    run_trials(journal_of(first.path), 1)
    first.persist()
    second = StudyBackup(tmp_path / "second", storage)
    second.fetch()
    run_trials(journal_of(second.path), 3)
    second.persist()
    again = StudyBackup(tmp_path / "first", storage)
    again.fetch()
    assert len(journal_of(again.path).trials()) == 4
    assert (tmp_path / "first" / "study.db.aside").exists()


def test_a_run_that_is_gone_from_storage_begins_anew(storage: Store, tmp_path: Path) -> None:
    backup = StudyBackup(tmp_path / "head", storage)
    backup.fetch()
    run_trials(journal_of(backup.path), 2)
    backup.persist()
    storage.delete_file("study.db")
    again = StudyBackup(tmp_path / "head", storage)
    again.fetch()
    assert journal_of(again.path).trials() == []


def test_a_driver_that_joins_no_cluster_goes_on_with_the_copy_and_is_followed(tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    joined = StudyBackup(tmp_path / "head", LocalStore(shared))
    joined.fetch()
    run_trials(journal_of(joined.path), 1)
    joined.persist()
    run_trials(journal_of(shared / "study.db"), 2)  # on one machine, in the run folder itself
    again = StudyBackup(tmp_path / "head", LocalStore(shared))
    again.fetch()
    assert len(journal_of(again.path).trials()) == 3


def test_a_log_that_a_killed_driver_left_beside_the_copy_is_part_of_it_and_of_no_other(tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    run_trials(journal_of(shared / "study.db"), 2)
    # Who is killed leaves the log behind; it is written into the file by whoever closes it last.
    killed = (
        "import os, sqlite3, sys; c = sqlite3.connect(sys.argv[1]); c.execute(sys.argv[2]); c.commit(); os._exit(9)"
    )
    change = "CREATE TABLE told_last (x)"
    subprocess.run([sys.executable, "-c", killed, str(shared / "study.db"), change], check=False)
    assert (shared / "study.db-wal").stat().st_size > 0
    backup = StudyBackup(tmp_path / "head", LocalStore(shared))
    backup.fetch()
    with closing(sqlite3.connect(backup.path)) as here:
        assert here.execute("SELECT * FROM told_last").fetchall() == []
    journal = journal_of(backup.path)
    assert len(journal.trials()) == 2
    run_trials(journal, 1)
    backup.persist()
    assert not (shared / "study.db-wal").exists()
    assert len(journal_of(shared / "study.db").trials()) == 3


def test_copies_are_kept_while_trials_run_and_nothing_is_written_when_nothing_changed(
    storage: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backup_module, "AT_LEAST_S", 0.05)
    backup = StudyBackup(tmp_path / "head", storage)
    backup.fetch()
    journal = journal_of(backup.path)
    backup.start()
    run_trials(journal, 1)
    backup.stop()
    other = StudyBackup(tmp_path / "other", storage)
    other.fetch()
    assert len(journal_of(other.path).trials()) == 1
    before = backup._numbers()
    backup.persist()
    assert backup._numbers() == before


def test_a_copy_that_cannot_be_kept_at_the_end_is_told(tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    backup = StudyBackup(tmp_path / "head", LocalStore(shared))
    backup.fetch()
    run_trials(journal_of(backup.path), 1)
    shared.rmdir()
    with pytest.raises(StorageError, match=r"shared/study\.db: cannot be written \(.*No such file or directory"):
        backup.stop()


def test_checkpoints_of_trials_that_the_study_has_lost_are_not_taken_for_those_of_others(
    storage: Store, tmp_path: Path
) -> None:
    backup = StudyBackup(tmp_path / "head", storage)
    backup.fetch()
    journal = journal_of(backup.path)
    run_trials(journal, 2)
    for number in range(4):
        trial = storage.child("checkpoints", f"trial-{number:04d}")
        trial.check()
        trial.write("result.json", b"{}")
    retention = CheckpointRetention(PLAN, journal, storage)
    assert retention.has_checkpoint(3)
    retention.delete_orphaned_checkpoints()
    assert [retention.has_checkpoint(number) for number in range(4)] == [True, True, False, False]
    left = CheckpointRetention(PLAN, journal, storage)
    assert [left.has_checkpoint(number) for number in range(4)] == [True, True, False, False]
