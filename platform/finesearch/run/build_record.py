"""Builds the report's record from the journal and the final scores; decides nothing."""

from __future__ import annotations

import os
import platform
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

from finesearch.plan import Plan
from finesearch.report import Breakdown, ObjectiveRow, RunRecord, ScoredRow, StepRow, TrialRow
from finesearch.report.number_format import listed, pluralize
from finesearch.run.preflight import Preflight
from finesearch.tuning.controller.search_controller import SearchController
from finesearch.tuning.controller.trial_queue import SEARCH
from finesearch.tuning.study.checkpoint_retention import quality_of
from finesearch.tuning.study.journal import Journal
from finesearch.tuning.study.journaled_trial import JournaledTrial, planned_evaluations
from finesearch.tuning.study.parameter_importance import parameter_importances
from finesearch.tuning.study.paused_trials import pauses_trials

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
    breakdown: Breakdown = Breakdown()


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
    notes |= dict.fromkeys(stopping_notes(plan, journal))
    if controller.lost_trials:
        warnings[lost_words(controller.lost_trials)] = None
    if not partial:
        warnings |= dict.fromkeys(finalist_warnings(controller))
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
        breakdown=final_scores.breakdown,
        front=journal.pareto_front() if several else [],
        importances=dict(parameter_importances(journal)),
        cost={
            "seconds": usage.seconds,
            "device_seconds": usage.device_seconds,
            **_money(plan, usage.device_seconds),
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


def _money(plan: Plan, device_seconds: float) -> dict[str, float]:
    cost = plan.budget.cost
    return {} if cost is None else {"money": cost.of(device_seconds), "per_device_hour": cost.per_device_hour}


def stopping_notes(plan: Plan, journal: Journal) -> list[str]:
    """Trials that the pruner rejected and that came to their end all the same."""
    trials, notes = journal.trials(), []
    spared = [trial.number for trial in trials if any(each.spared for each in trial.evaluations.values())]
    if spared:
        notes.append(
            f"{_trials(spared)} went on although search.pruner rejected a value: what was left cost no more than "
            "starting another trial and training it up to its first evaluation."
        )
    finished = [trial.number for trial in trials if trial.to_end and trial.state == "complete"]
    if pauses_trials(plan):
        whole = sum(trial.state == "complete" for trial in trials)
        resumed = sum(trial.stopped is not None and not trial.to_end for trial in trials)
        notes.append(
            f"freeze_thaw trained {pluralize(len(trials), 'trial')} for as many epochs as {plan.budget.trials} whole "
            f"ones have: {whole} to their end, {resumed} of all were paused and gone on with."
        )
    if finished:
        notes.append(
            f"{_trials(finished)} had been stopped early, and went on to their end after the search's other trials: "
            f"they were among the best (search.finish_top: {plan.search.finish_top})."
        )
    return notes


def lost_words(numbers: Sequence[int]) -> str:
    """That a study lacks trials which the run had."""
    return (
        f"{_trials(list(numbers))} left checkpoints, and the study did not know of them: it was restored from an older "
        f"copy, or cut short. At least {pluralize(len(numbers), 'result')} are lost; later trials get those numbers."
    )


def finalist_warnings(controller: SearchController) -> list[str]:
    """Stopped trials among the best that did not go on to their end, with the reason."""
    plan, journal, said = controller.plan, controller.journals[SEARCH], []
    for number, reason in sorted(controller.finalists_left_stopped().items()):
        trial = journal.get(number)
        last = trial.last.step if trial.last is not None else 0
        said.append(
            f"Trial {number} is among the best {plan.search.finish_top} and stays stopped, at evaluation {last} of "
            f"{planned_evaluations(trial, plan)}: {reason}."
        )
    return said


def _trials(numbers: list[int]) -> str:
    shown = [str(number) for number in numbers]
    return f"Trial {shown[0]}" if len(shown) == 1 else f"Trials {listed(shown)}"


def trial_row(controller: SearchController, trial: JournaledTrial) -> TrialRow:
    """The report's row of one trial."""
    journal, last, outcome, detail = controller.journals[SEARCH], trial.last, trial.outcome, trial.detail
    evaluations = trial.evaluations.values()
    seconds = detail.seconds or max((evaluation.seconds for evaluation in evaluations), default=0.0)
    training = controller.plan.training
    devices = training.devices_per_trial
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
        stopped_at=last.step if trial.state == "pruned" and last is not None else None,
        evaluations=planned_evaluations(trial, controller.plan),
        best=quality_of(journal, trial) if trial.state == "pruned" and trial.rankable is not None else None,
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
