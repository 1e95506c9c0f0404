"""Scores checkpoints again before they are ranked: in processes that never saw the search."""

from __future__ import annotations

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
    checkpoint: str, task: TaskPlan, training: TrainingPlan, base: str, cache: str
) -> Rescored:
    """Load ``checkpoint`` and score it on both splits, validation first; test is read once."""
    from finesearch.training import evaluate_checkpoint

    try:
        validation = evaluate_checkpoint(checkpoint, "validation", task, training, base, cache)
        test = evaluate_checkpoint(checkpoint, "test", task, training, base, cache)
    except FinesearchError as error:
        return Rescored({}, {}, [], [], error.message)
    return Rescored(validation.metrics, test.metrics, test.predictions, test.references)


def score_majority_baseline(task: TaskPlan, base: str, cache: str) -> Rescored:
    """The majority baseline on both splits."""
    from finesearch.training.majority import score_majority

    scored = score_majority(task, base, cache)
    return Rescored(
        scored["validation"].metrics, scored["test"].metrics, scored["test"].predictions, scored["test"].references
    )


def rescore_all(
    checkpoints: list[str], task: TaskPlan, training: TrainingPlan, base: str, cache: str
) -> list[Rescored]:
    """Each checkpoint in a clean process of its own, as many at once as the cluster holds."""
    remote = ray.remote(
        num_cpus=training.cpus_per_worker,
        num_gpus=1 if training.gpus_per_worker else 0,
        max_calls=1,  # the process ends with the call: nothing of one checkpoint can reach the next
        max_retries=2,
    )(rescore)
    waiting = [remote.remote(path, task, training, base, cache) for path in checkpoints]
    rescored = []
    for reference in waiting:
        try:
            rescored.append(ray.get(reference))
        except ray.exceptions.RayError as error:
            rescored.append(Rescored({}, {}, [], [], f"the process that scored it died: {type(error).__name__}: {error}"))
    return rescored
