"""Trials without workers, told to trackers as Tune tells them: its own kind of trial, our controller."""

from __future__ import annotations

import struct
from pathlib import Path

from ray.tune.experiment import Trial

import trial_reports
from finesearch.run.open_search import open_search_controller
from finesearch.tuning.controller.search_controller import SearchController
from finesearch.tuning.messages import EvaluationReport, TrialEvent, to_json
from finesearch.tuning.observability.trackers import Tracking
from plans import empty_plan


def evaluation(step: int) -> EvaluationReport:
    return trial_reports.evaluation(step, step / 4, float(step), epoch=float(step), tokens=10 * step)


def conductor_of(folder: Path, tracking: str) -> SearchController:
    return open_search_controller(empty_plan(tracking=tracking, search="{pruner: none, concurrent_trials: 1}"), folder)


def started(controller: SearchController, tracking: Tracking) -> Trial:
    """The next trial as Tune has it."""
    trial = Trial("WarmTrial", stub=True)
    job = controller.next_job(trial.trial_id)
    assert job is not None
    trial.config = {"job": to_json(job)}
    tracking.on_trial_start(0, [trial], trial)
    return trial


def told(controller: SearchController, tracking: Tracking, trial: Trial, event: TrialEvent) -> None:
    """One result, in Tune's order: journal first."""
    if isinstance(event, EvaluationReport):
        controller.evaluation(trial.trial_id, event)
    tracking.on_trial_result(0, [trial], trial, {"value": 0.0, "event": to_json(event)})


def scalars(folder: Path) -> dict[str, dict[int, float]]:
    """Tag -> step -> value, of all event files of TensorBoard in a folder: length, checksum, event, checksum each."""
    from tensorboardX.proto.event_pb2 import Event

    found: dict[str, dict[int, float]] = {}
    for path in sorted(folder.glob("events.out.tfevents.*")):
        data, at = path.read_bytes(), 0
        while at < len(data):
            (length,) = struct.unpack_from("<Q", data, at)
            event = Event.FromString(data[at + 12 : at + 12 + length])
            at += 12 + length + 4
            for value in event.summary.value:
                if value.HasField("simple_value"):
                    found.setdefault(value.tag, {})[event.step] = value.simple_value
    return found
