"""Trials as TensorBoard and the others are shown them; Ray's own loggers and trials, no cluster."""

from __future__ import annotations

import pickle
import time
from pathlib import Path

import pytest

from finesearch.errors import InputError
from finesearch.run.preflight import check_tracking
from finesearch.tuning.observability.trackers import TrackedTrial, Tracking, make_trackers
from plans import empty_plan
from tracked import conductor_of, evaluation, scalars, started, told
from trial_reports import completed


def test_event_files_hold_every_evaluation_and_the_recipe(tmp_path: Path) -> None:
    said: list[str] = []
    controller = conductor_of(tmp_path, "{tensorboard: true}")
    tracking = Tracking(controller, make_trackers(controller.plan, tmp_path), said.append)
    trial = started(controller, tracking)
    for step in (1, 2, 3):
        told(controller, tracking, trial, evaluation(step))
    told(controller, tracking, trial, completed(evaluation(3)))
    tracking.on_trial_complete(0, [trial], trial)
    tracking.on_experiment_end([trial])
    found = scalars(tmp_path / "tensorboard" / "trial-0000")
    assert found["ray/tune/accuracy"] == {1: 0.25, 2: 0.5, 3: 0.75}
    assert found["ray/tune/tokens"] == {1: 10, 2: 20, 3: 30}
    files = b"".join(path.read_bytes() for path in (tmp_path / "tensorboard").rglob("events*"))
    assert b"learning_rate" in files
    assert said == []


def test_a_search_that_goes_on_adds_to_the_events_and_repeats_none(tmp_path: Path) -> None:
    controller = conductor_of(tmp_path, "{tensorboard: true}")
    tracking = Tracking(controller, make_trackers(controller.plan, tmp_path), print)
    told(controller, tracking, started(controller, tracking), evaluation(1))
    tracking.on_experiment_end([])  # the driver is gone, and the trial is left running in the journal
    time.sleep(1.1)  # event files are named by the second
    again = conductor_of(tmp_path, "{tensorboard: true}")
    tracking = Tracking(again, make_trackers(again.plan, tmp_path), print)
    told(again, tracking, started(again, tracking), evaluation(2))
    tracking.on_experiment_end([])
    folder = tmp_path / "tensorboard" / "trial-0000"
    assert scalars(folder)["ray/tune/accuracy"] == {1: 0.25, 2: 0.5}
    assert len(list(folder.glob("events*"))) == 2


def test_a_tracker_that_fails_is_said_once_and_does_not_end_the_search(tmp_path: Path) -> None:
    said: list[str] = []
    (tmp_path / "tensorboard").write_text("a file where a folder is to be")
    controller = conductor_of(tmp_path, "{tensorboard: true}")
    tracking = Tracking(controller, make_trackers(controller.plan, tmp_path), said.append)
    for _ in range(2):
        trial = started(controller, tracking)
        told(controller, tracking, trial, evaluation(1))
        tracking.on_trial_error(0, [trial], trial)
    tracking.on_experiment_end([])
    assert len(said) == 1
    assert said[0].startswith("tracking.tensorboard: failed, and is left out from here on: [Errno")


def test_nothing_is_made_unless_the_plan_asks(tmp_path: Path) -> None:
    assert not empty_plan().tracking.is_enabled
    assert make_trackers(empty_plan(), tmp_path) == []


def test_tune_may_pickle_it(tmp_path: Path) -> None:
    controller = conductor_of(tmp_path, "{tensorboard: true}")
    pickle.loads(pickle.dumps(Tracking(controller, [], print)))


def test_what_is_shown_is_hashed_by_identity(tmp_path: Path) -> None:
    one, other = (TrackedTrial("a", "tiny trial 1", {}, str(tmp_path), "tiny") for _ in range(2))
    assert len({one, other}) == 2
    assert str(one) == "tiny trial 1"


def test_a_missing_package_is_said_before_anything_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("finesearch.run.preflight.find_spec", lambda name: None)
    plan = empty_plan(tracking="{mlflow: {tracking_uri: http://127.0.0.1:1}, wandb: {project: p}}")
    with pytest.raises(InputError, match=r"tracking.wandb: expected the package wandb, and it is not installed"):
        check_tracking(plan)
    with pytest.raises(InputError, match=r"Run pip install '\.\[tracking\]' \(or pip install mlflow\), or leave"):
        check_tracking(plan)
    check_tracking(empty_plan(tracking="{tensorboard: true}"))


def test_a_server_that_does_not_answer_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    plan = empty_plan(tracking="{mlflow: {tracking_uri: http://127.0.0.1:9}}")
    with pytest.raises(InputError, match=r"tracking.mlflow: expected to connect, got: .*127\.0\.0\.1"):
        make_trackers(plan, tmp_path)
