"""From the journal to the report's record: nothing is decided here, only reported."""

from __future__ import annotations

import os
import platform
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any, cast

from optuna.trial import FrozenTrial

from finesearch.plan import Plan
from finesearch.report import ObjectiveRow, RunRecord, ScoredRow, State, StepRow, TrialRow
from finesearch.run.preflight import Preflight
from finesearch.tuning.controller.search_controller import SEARCH, SearchController
from finesearch.tuning.study.journal import journaled_evaluations, started_at, state_name
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
    """What final scoring found: rows in rank order and the baselines."""

    ranked: tuple[ScoredRow, ...] = ()
    baselines: tuple[ScoredRow, ...] = ()


def build_record(
    controller: SearchController, preflight: Preflight, final_scores: FinalScores, partial: bool, command: str
) -> RunRecord:
    """Everything that the report says, from what is journaled now."""
    plan, journal = controller.plan, controller.journals[SEARCH]
    trials = [trial_row(controller, trial) for trial in journal.trials()]
    several = len(plan.objectives) > 1
    usage = controller.usage
    warnings = dict.fromkeys(preflight.warnings)
    outcomes = [trial.user_attrs.get("outcome") or {} for j in controller.journals.values() for trial in j.trials()]
    notes = dict.fromkeys((*preflight.notes, *(note for reported in outcomes for note in reported.get("notes", ()))))
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
        front=[t.number for t in journal.study.best_trials] if several and journal.counts()["complete"] else [],
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


def trial_row(controller: SearchController, trial: FrozenTrial) -> TrialRow:
    """One trial as the report shows it."""
    reported: Mapping[str, Any] = trial.user_attrs.get("outcome") or {}
    steps = journaled_evaluations(trial)
    seconds = float(reported.get("seconds") or max((s["seconds"] for s in steps.values()), default=0.0))
    training = controller.plan.training
    devices = training.workers_per_trial * (training.gpus_per_worker or training.cpus_per_worker)
    kept = reported.get("checkpoint")
    last: Mapping[str, Any] = steps[max(steps)] if steps else {}
    return TrialRow(
        trial=trial.number,
        state=cast(State, state_name(trial)),
        reason=reported.get("reason"),
        parameters=trial.user_attrs["asked"]["parameters"],
        values=reported.get("values") if state_name(trial) == "complete" else None,
        history=[
            StepRow(
                step=n,
                epoch=s["epoch"],
                value=s["value"],
                metrics=s["metrics"],
                train_loss=s["train_loss"],
                seconds=s["seconds"],
            )
            for n, s in sorted(steps.items())
        ],
        trainable_parameters=reported.get("trainable_parameters") or last.get("trainable_parameters"),
        seconds=seconds,
        device_seconds=seconds * devices,
        started=reported.get("began") or last.get("began") or started_at(trial),
        finished=reported.get("at"),
        group=reported.get("group") or last.get("group"),
        checkpoint=kept if controller.has_checkpoint(kept, trial.number) else None,
        warnings=reported.get("warnings") or (),
    )


def reproduction(plan: Plan, preflight: Preflight, command: str) -> dict[str, Any]:
    """What it takes to repeat the search: command, versions, seeds, fingerprints."""
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
    """The installed version, or the source tree's where the package itself travels with a job."""
    from finesearch import __version__

    return __version__ if package == "finesearch" else version(package)
