"""Two drivers on one run in an object store: one of them works, and the other says who does."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator

import pytest

from finesearch.errors import FinesearchError, RunConflictError, StorageError
from finesearch.storage import run_lease as lease_module
from finesearch.storage.object_store import ObjectStore
from finesearch.storage.run_lease import RunLease
from object_stores import BUCKET, s3_bucket


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with s3_bucket() as options:
        yield options


@pytest.fixture
def run(server: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> ObjectStore:
    # The server tells times of writing in whole seconds.
    monkeypatch.setattr(lease_module, "RENEW_S", 1.0)
    monkeypatch.setattr(lease_module, "EXPIRES_S", 2.5)
    monkeypatch.setattr(lease_module, "LOOK_EVERY_S", 0.1)
    return ObjectStore(f"s3://{BUCKET}/{request.node.name}?{server}")


def die(lease: RunLease) -> None:
    """As a driver does that is killed: it shows itself no more, and takes nothing back."""
    lease._ended.set()
    lease._thread.join()


def test_a_second_driver_is_refused_naming_the_first(run: ObjectStore) -> None:
    said: list[str] = []
    with RunLease(run, "one home"):
        with pytest.raises(
            RunConflictError, match=rf"another driver is working on this run: process {os.getpid()} on .*--name"
        ):
            RunLease(run, "another home", said.append)
        assert len(run.child("drivers").files()) == 1
    assert "was at work on it; seeing for 2.5 s whether it still is" in said[0]
    with RunLease(run, "another home"):
        pass
    assert run.child("drivers").files() == {}


def test_a_driver_that_died_is_waited_for_and_replaced(run: ObjectStore) -> None:
    die(RunLease(run, "one home"))
    began = time.monotonic()
    with RunLease(run, "another home"):
        assert len(run.child("drivers").files()) == 1
    assert 1.0 < time.monotonic() - began < 10.0


def test_a_driver_that_died_on_this_machine_is_replaced_at_once(run: ObjectStore) -> None:
    die(RunLease(run, "one home"))
    began = time.monotonic()
    with RunLease(run, "one home"):
        assert time.monotonic() - began < 1.0


def test_a_driver_that_was_taken_for_dead_gives_up(run: ObjectStore) -> None:
    lost: list[FinesearchError] = []
    told = threading.Event()
    first = RunLease(run, "one home")
    first.on_lost = lambda error: (lost.append(error), told.set())  # type: ignore[func-returns-value]
    run.child("drivers").delete_file(first._name)
    run.child("drivers").write("other", b'{"host": "elsewhere", "pid": 7, "since": 0, "home": "another home"}')
    assert told.wait(10.0)
    assert isinstance(lost[0], StorageError)
    assert "another has taken the run over: process 7 on elsewhere" in lost[0].message


def test_no_two_attempts_at_a_trial_share_a_number(run: ObjectStore) -> None:
    assert [run.claim_number() for _ in range(2)] == [1, 2]
    numbers: list[int] = []
    threads = [threading.Thread(target=lambda: numbers.append(run.claim_number())) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(numbers)) == 4
    assert min(numbers) >= 3  # what several have claimed at once belongs to none of them
