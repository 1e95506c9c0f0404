"""What a search survives, on a real Ray: killed workers, actors and drivers, hangs, exceptions, numbers that are
none."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from clusters import environment, processes_of, ray_cluster, ray_folder
from paths import TUNING_SUPPORT

pytestmark = pytest.mark.ray

DRIVER = TUNING_SUPPORT / "fault_driver.py"


@pytest.fixture(scope="module")
def joined(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The environment of drivers on one shared Ray."""
    with ray_cluster(tmp_path_factory.mktemp("ray")) as variables:
        yield variables


@pytest.fixture
def own_ray() -> Iterator[Path]:
    with ray_folder() as folder:
        yield folder


def start(folder: Path, variables: dict[str, str], fault: str = "none", *more: str) -> subprocess.Popen[str]:
    command = [sys.executable, str(DRIVER), str(folder), fault, *more]
    return subprocess.Popen(command, env=variables, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def drive(folder: Path, variables: dict[str, str], fault: str = "none", *more: str) -> dict[str, Any]:
    with start(folder, variables, fault, *more) as driver:
        output, errors = driver.communicate(timeout=400)
    assert driver.returncode == 0, errors[-3000:]
    return json.loads(output.splitlines()[-1])


def trained(folder: Path) -> Counter[tuple[int, int]]:
    """How often each (trial, step) was really trained."""
    return Counter(tuple(map(int, line.split()[:2])) for line in (folder / "log").read_text().splitlines())


def workers_of(folder: Path, trial: int) -> list[int]:
    """Processes that trained a trial, in order."""
    lines = [tuple(map(int, line.split()[:3])) for line in (folder / "log").read_text().splitlines()]
    return list(dict.fromkeys(process for number, _, process in lines if number == trial))


def study(result: dict[str, Any]) -> list[tuple[Any, ...]]:
    return [(t["number"], t["state"], t["values"], t["params"], t["steps"]) for t in result["trials"]]


def test_each_fault_fails_its_own_trial_and_no_other(tmp_path: Path, joined: dict[str, str]) -> None:
    result = drive(tmp_path, joined, "diverge:1;infinite:2;kill once:3", "--trials", "3", "--failed", "9")
    assert [(trial["state"], trial["reason"]) for trial in result["trials"]] == [
        ("complete", None),
        ("failed", "the training loss became nan at step 12"),
        ("failed", "accuracy was inf at evaluation 2"),
        ("complete", None),
        ("complete", None),
    ], "failed trials do not count towards budget.trials"
    # A killed worker costs only what came after the last checkpoint.
    assert trained(tmp_path)[(3, 1)] == 1
    assert len(workers_of(tmp_path, 3)) == 2
    # A loss that diverged leaves the worker warm.
    assert workers_of(tmp_path, 1) == workers_of(tmp_path, 0) == workers_of(tmp_path, 2)


@pytest.mark.slow
def test_each_fault_that_ends_the_worker_fails_its_own_trial_and_no_other(
    tmp_path: Path, joined: dict[str, str]
) -> None:
    faults = "raise:1;hang once:2;kill always:3"
    result = drive(tmp_path, joined, faults, "--trials", "3", "--failed", "9", "--hang", "4")
    assert [trial["state"] for trial in result["trials"]] == ["complete", "failed", "complete", "failed", "complete"]
    reasons = [trial["reason"] for trial in result["trials"]]
    assert reasons[1] == "RuntimeError: this trial cannot be trained"
    assert "died 3 times" in reasons[3]
    # An exception that nobody expected leaves no warm worker; a hang costs only what came after the last checkpoint.
    assert workers_of(tmp_path, 2)[0] != workers_of(tmp_path, 1)[-1]
    assert len(workers_of(tmp_path, 2)) == 2
    assert trained(tmp_path)[(2, 1)] == trained(tmp_path)[(3, 1)] == 1


def test_when_every_trial_fails_the_search_stops_and_says_why(tmp_path: Path, joined: dict[str, str]) -> None:
    result = drive(tmp_path, joined, "diverge", "--failed", "3")
    assert [trial["state"] for trial in result["trials"]] == ["failed"] * 3
    assert result["stop_reason"].startswith(
        "3 trials failed (budget.failed_trials is 3); the last: the training loss became nan"
    )


@pytest.mark.slow
def test_an_exception_on_one_of_two_ranks_fails_the_trial_alone(tmp_path: Path, joined: dict[str, str]) -> None:
    result = drive(tmp_path, joined, "raise on rank 1:1", "--workers", "2", "--trials", "2")
    assert [trial["state"] for trial in result["trials"]] == ["complete", "failed", "complete"]
    assert result["trials"][1]["reason"] == "RuntimeError: rank 1 met something odd"


@pytest.mark.slow
def test_a_full_disk_ends_the_search_and_keeps_the_trial_for_later(tmp_path: Path, joined: dict[str, str]) -> None:
    result = drive(tmp_path, joined, "disk full:1", "--trials", "3")
    assert result["error"] == ["DiskFullError", "/runs/x: no space is left on the device"]
    assert [trial["state"] for trial in result["trials"]] == ["complete", "running"]
    result = drive(tmp_path, joined, "none", "--trials", "3")
    assert [trial["state"] for trial in result["trials"]] == ["complete"] * 3
    assert set(trained(tmp_path).values()) == {1}


@pytest.mark.slow
def test_a_killed_trial_actor_is_replaced(tmp_path: Path, joined: dict[str, str]) -> None:
    with start(tmp_path, joined, "none", "--trials", "3", "--step-s", "1.5") as driver:
        wait_for_line(tmp_path / "log", driver)
        actors = [p for p in psutil.process_iter(["cmdline"]) if "ray::WarmTrial" in " ".join(p.info["cmdline"] or [])]
        assert actors, "no trial actor is running"
        for actor in actors:
            actor.kill()
        output, errors = driver.communicate(timeout=300)
    assert driver.returncode == 0, errors[-3000:]
    result = json.loads(output.splitlines()[-1])
    assert [trial["state"] for trial in result["trials"]] == ["complete"] * 3
    assert trained(tmp_path)[(0, 1)] == 1, "the trial went on from its checkpoint"


@pytest.mark.slow
def test_a_driver_killed_again_and_again_finishes_the_same_study(tmp_path: Path, joined: dict[str, str]) -> None:
    arguments = ("--trials", "5", "--pruner", "successive_halving")
    expected = study(drive(tmp_path / "undisturbed", joined, "none", *arguments))
    folder = tmp_path / "killed"
    # In turn: between an evaluation's value and its note, between an end's note and its state, inside a suggestion.
    for write in ("14", "16", "6"):
        with start(folder, joined, "none", *arguments, "--die-at-write", write) as driver:
            driver.communicate(timeout=300)
        assert driver.returncode == -signal.SIGKILL
    assert study(drive(folder, joined, "none", *arguments)) == expected
    assert set(trained(folder)) == set(trained(tmp_path / "undisturbed"))


@pytest.mark.slow
def test_a_driver_killed_at_any_moment_loses_and_repeats_nothing(tmp_path: Path, own_ray: Path) -> None:
    arguments = ("--trials", "6", "--concurrent", "2", "--step-s", "0.7")
    alone = environment(RAY_TMPDIR=str(own_ray))
    for _ in range(2):
        with start(tmp_path / "run", alone, "none", *arguments) as driver:
            wait_for_line(tmp_path / "run" / "log", driver, more_than=len(log_lines(tmp_path / "run")) + 3)
            driver.kill()
            driver.communicate(timeout=60)
        wait_until_gone(own_ray)
    result = drive(tmp_path / "run", alone, "none", *arguments)
    assert [trial["state"] for trial in result["trials"]] == ["complete"] * 6
    steps = trained(tmp_path / "run")
    assert set(steps) == {(number, step) for number in range(6) for step in (1, 2, 3)}
    # At a kill each of the two running trials may have been inside one step that was not saved yet.
    assert sum(steps.values()) - len(steps) <= 4


def log_lines(folder: Path) -> list[str]:
    path = folder / "log"
    return path.read_text().splitlines() if path.exists() else []


def wait_for_line(log: Path, driver: subprocess.Popen[str], more_than: int = 0, timeout_s: float = 200) -> None:
    end = time.monotonic() + timeout_s
    while len(log_lines(log.parent)) <= more_than:
        assert driver.poll() is None, driver.communicate()[1][-3000:]
        assert time.monotonic() < end, "the search does not get anywhere"
        time.sleep(0.1)


def wait_until_gone(folder: Path, timeout_s: float = 30) -> None:
    end = time.monotonic() + timeout_s
    while left := [p for p in processes_of(folder) if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]:
        assert time.monotonic() < end, f"left behind: {left}"
        time.sleep(0.2)


def test_a_second_driver_is_refused_and_told_of_the_first(tmp_path: Path) -> None:
    from finesearch.errors import RunConflictError
    from finesearch.storage.run_lock import RunLock

    with RunLock(tmp_path), pytest.raises(RunConflictError, match=rf"process {os.getpid()} on .*, since "):
        RunLock(tmp_path)
    RunLock(tmp_path).release()
