"""Scores checkpoints again before they are ranked: in processes that never saw the search."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import ray

from finesearch.errors import FinesearchError
from finesearch.plan import TaskPlan, TrainingPlan


@dataclass(frozen=True)
class Rescored:
    """A reloaded checkpoint's metrics on validation and test; ``error`` says why there are none."""

    validation: dict[str, float]
    test: dict[str, float]
    predictions: list[Any]
    references: list[Any]
    error: str | None = None


def rescore(
    checkpoints: Sequence[str], task: TaskPlan, training: TrainingPlan, base: str, cache: str
) -> list[Rescored]:
    """Load each checkpoint from disk and score it on both splits, validation first; test is read once for each."""
    from finesearch.training import evaluate_checkpoint

    rescored = []
    for checkpoint in checkpoints:
        try:
            validation = evaluate_checkpoint(checkpoint, "validation", task, training, base, cache)
            test = evaluate_checkpoint(checkpoint, "test", task, training, base, cache)
        except FinesearchError as error:
            rescored.append(Rescored({}, {}, [], [], error.message))
        else:
            rescored.append(Rescored(validation.metrics, test.metrics, test.predictions, test.references))
    return rescored


def rescore_all(
    checkpoints: Sequence[str], task: TaskPlan, training: TrainingPlan, base: str, cache: str, processes: int
) -> list[Rescored]:
    """Score checkpoints in processes that never saw the search, at most ``processes`` at once.

    Importing takes longer than scoring, so each process takes a share; a share whose process dies is scored again one
    by
    one, so that a checkpoint that kills its process takes no other along.
    """
    remote = ray.remote(
        num_cpus=training.cpus_per_worker,
        num_gpus=1 if training.gpus_per_worker else 0,
        max_calls=1,  # the process ends with the call
        max_retries=0,
    )(rescore)
    found: dict[str, Rescored] = {}
    shares = [list(checkpoints[start::processes]) for start in range(min(processes, len(checkpoints)))]
    waiting = [(share, remote.remote(share, task, training, base, cache)) for share in shares]
    alone: list[str] = []
    for share, reference in waiting:
        try:
            rescored: list[Rescored] = ray.get(reference)
            found.update(zip(share, rescored, strict=True))
        except ray.exceptions.RayError:
            alone += share
    for checkpoint in alone:
        try:
            found[checkpoint] = ray.get(remote.remote([checkpoint], task, training, base, cache))[0]
        except ray.exceptions.RayError as error:
            reason = f"the process that scored it died: {type(error).__name__}: {error}"
            found[checkpoint] = Rescored({}, {}, [], [], reason)
    return [found[checkpoint] for checkpoint in checkpoints]
