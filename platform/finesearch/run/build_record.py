"""Builds the report's record from the journal and the final scores; decides nothing."""

from __future__ import annotations

import os
import platform
import sys
import time
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

from finesearch.plan import Plan
from finesearch.report import ObjectiveRow, RunRecord, ScoredRow, StepRow, TrialRow
from finesearch.run.preflight import Preflight
from finesearch.tuning.controller.search_controller import SearchController
from finesearch.tuning.controller.trial_queue import SEARCH
from finesearch.tuning.study.journaled_trial import JournaledTrial
from finesearch.tuning.study.parameter_importance import parameter_importances

PACKAGES = (
    "ray",
    "torch",
    "transformers",
    "datasets",
    "optuna",
    "deepspeed",
    "peft",
    "pyarrow",
    "scikit-learn",
    "numpy",
)


@dataclass(frozen=True)
class FinalScores:
    """Results of final scoring: rows in rank order and the baselines."""

    ranked: tuple[ScoredRow, ...] = ()
    baselines: tuple[ScoredRow, ...] = ()


def build_record(
    controller: SearchController, preflight: Preflight, final_scores: FinalScores, partial: bool, command: str
) -> RunRecord:
    """The record for the report, from the journal's current state."""
    plan, journal = controller.plan, controller.journals[SEARCH]
    trials = [trial_row(controller, trial) for trial in journal.trials()]
    several = len(plan.objectives) > 1
    usage = controller.usage
    warnings = dict.fromkeys(preflight.warnings)
    trials_of_all = (trial for journal in controller.journals.values() for trial in journal.trials())
    notes = dict.fromkeys((*preflight.notes, *(note for trial in trials_of_all for note in trial.detail.notes)))
    if controller.stop_reason:
        warnings[f"The search ended early: {controller.stop_reason}."] = None
    return RunRecord(
        name=plan.name,
        metric=plan.task.metric,
        goal=plan.objectives[0].goal,
        objectives=[ObjectiveRow(name=o.name, goal=o.goal) for o in plan.objectives],
        partial=partial,
        trials=trials,
        ranked=final_scores.ranked,
        baselines=final_scores.baselines,
        front=journal.pareto_front() if several else [],
        importances=dict(parameter_importances(journal)),
        cost={
            "seconds": usage.seconds,
            "device_seconds": usage.device_seconds,
            "trials": dict(journal.counts()),
            "resumes": usage.starts - 1,
        },
        notes=list(notes),
        warnings=list(warnings),
        plan_yaml=plan.to_yaml(),
        reproduction=reproduction(plan, preflight, command),
        started=min((row.started for row in trials if row.started is not None), default=None),
        updated=time.time(),
    )


def trial_row(controller: SearchController, trial: JournaledTrial) -> TrialRow:
    """The report's row of one trial."""
    last, outcome, detail = trial.last, trial.outcome, trial.detail
    evaluations = trial.evaluations.values()
    seconds = detail.seconds or max((evaluation.seconds for evaluation in evaluations), default=0.0)
    training = controller.plan.training
    devices = training.workers_per_trial * (training.gpus_per_worker or training.cpus_per_worker)
    return TrialRow(
        trial=trial.number,
        state=trial.state,
        reason=outcome.reason if outcome is not None else None,
        parameters=dict(trial.parameters),
        values=trial.values if trial.state == "complete" else None,
        history=[
            StepRow(
                step=evaluation.step,
                epoch=evaluation.epoch,
                value=evaluation.value,
                metrics=dict(evaluation.metrics),
                train_loss=evaluation.train_loss,
                seconds=evaluation.seconds,
            )
            for evaluation in evaluations
        ],
        trainable_parameters=detail.trainable_parameters or (last.trainable_parameters if last else None),
        seconds=seconds,
        device_seconds=seconds * devices,
        started=detail.began or (last.began if last else None) or trial.started_at,
        finished=outcome.at if outcome is not None else None,
        group=detail.group or (last.group if last else None),
        checkpoint=detail.checkpoint if controller.has_checkpoint(detail.checkpoint, trial.number) else None,
        warnings=detail.warnings,
    )


def reproduction(plan: Plan, preflight: Preflight, command: str) -> dict[str, Any]:
    """Facts to reproduce the search: command, versions, seeds, fingerprints."""
    return {
        "command": command,
        "versions": {"python": platform.python_version(), "finesearch": version_of("finesearch")}
        | {name: version_of(name) for name in PACKAGES},
        "seeds": {"search": plan.search.seed, "training": plan.training.seed, "splits": plan.task.data.split_seed},
        "data_fingerprints": dict(preflight.splits.fingerprints),
        "model": plan.task.model,
        "model_sha256": preflight.model.sha256,
        "plan_sha256": plan.fingerprint,
        "hardware": f"{platform.machine()}, {os.cpu_count()} CPUs, {platform.system()} {platform.release()}",
        "executable": os.path.basename(sys.executable),
    }


def version_of(package: str) -> str:
    """The installed version, or the source tree's where a job brings the package along."""
    from finesearch import __version__

    return __version__ if package == "finesearch" else version(package)
