"""Re-scores checkpoints before they are ranked, in processes that took no part in the search."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass
from typing import Any

import ray

from finesearch.errors import FinesearchError
from finesearch.plan import GenerationChoices, GenerationPlan, TaskPlan, TrainingPlan
from finesearch.redaction import redact
from finesearch.storage.local_dirs import on_this_node
from finesearch.training.loop.score_checkpoint import CheckpointScorer


@dataclass(frozen=True)
class RescoredCheckpoint:
    """A reloaded checkpoint's metrics on validation and test; ``error`` says why there are none.

    ``generation``: settings chosen on validation, with which test is scored; ``chosen_validation``: the metric with
    them; ``validation``: the metric with the plan's own.
    """

    validation: dict[str, float]
    test: dict[str, float]
    predictions: list[Any]
    references: list[Any]
    error: str | None = None
    _: KW_ONLY
    generation: dict[str, Any] | None = None
    chosen_validation: float | None = None


@dataclass(frozen=True)
class RescoringSettings:
    """How checkpoints are scored again; sent to the scoring processes.

    base, cache: as of ``CheckpointScorer``. choices: generation settings to choose from on validation, by the task's
    metric, of which a larger value is better if ``maximize``.
    """

    task: TaskPlan
    training: TrainingPlan
    base: str
    cache: str
    maximize: bool
    _: KW_ONLY
    choices: GenerationChoices | None = None
    seed: int = 0

    def scorer(self) -> CheckpointScorer:
        return CheckpointScorer(self.task, self.training, self.base, on_this_node(self.cache))


def rescore(
    checkpoints: Sequence[str], rescoring: RescoringSettings, scorer: CheckpointScorer | None = None
) -> list[RescoredCheckpoint]:
    """Load each checkpoint from disk and score it on both splits, validation first; test is read once for each.

    Data, tokens and base model are read once for all checkpoints, and each checkpoint once for all of its scores.
    """
    scorer = scorer or rescoring.scorer()
    rescored = []
    for checkpoint in checkpoints:
        try:
            rescored.append(_rescored(scorer, checkpoint, rescoring))
        except FinesearchError as error:
            rescored.append(RescoredCheckpoint({}, {}, [], [], redact(error.message)))
    return rescored


def _rescored(scorer: CheckpointScorer, checkpoint: str, rescoring: RescoringSettings) -> RescoredCheckpoint:
    loaded = scorer.load(checkpoint)
    validation = loaded.score("validation")
    own, choices, metric = rescoring.task.generation, rescoring.choices, rescoring.task.metric
    if choices is None or own is None:
        test = loaded.score("test")
        return RescoredCheckpoint(validation.metrics, test.metrics, test.predictions, test.references)

    # Imports Optuna: only in processes that have settings to choose.
    from finesearch.tuning.samplers.generation_search import choose_generation

    def score(settings: GenerationPlan) -> float:
        return loaded.score("validation", settings).metrics[metric]

    chosen = choose_generation(choices, own, validation.metrics[metric], score, rescoring.maximize, rescoring.seed)
    test = loaded.score("test", chosen.settings)
    return RescoredCheckpoint(
        validation.metrics,
        test.metrics,
        test.predictions,
        test.references,
        generation=chosen.settings.model_dump(mode="json"),
        chosen_validation=chosen.value,
    )


class StandbyScorer:
    """A scoring process that loads data and base model while the last trials still run.

    It takes part in no trial, and reserves no device: on a GPU there would be none for it.
    """

    def __init__(self, rescoring: RescoringSettings) -> None:
        self._clerk: Any = ray.remote(_ScoringActor).options(num_cpus=0).remote(rescoring)

    def rescore(self, checkpoints: Sequence[str]) -> Any:
        """A Ray reference to the result of ``rescore``."""
        return self._clerk.rescore.remote(list(checkpoints))

    def end(self) -> None:
        ray.kill(self._clerk)


class _ScoringActor:
    """The actor of a ``StandbyScorer``."""

    def __init__(self, rescoring: RescoringSettings) -> None:
        self._rescoring, self._scorer = rescoring, rescoring.scorer()
        # An error here is raised again by `rescore`.
        with contextlib.suppress(FinesearchError), self._scorer.working():
            self._scorer.prepare()

    def rescore(self, checkpoints: Sequence[str]) -> list[RescoredCheckpoint]:
        return rescore(checkpoints, self._rescoring, self._scorer)


def rescore_all(
    checkpoints: Sequence[str], rescoring: RescoringSettings, processes: int, standby: StandbyScorer | None = None
) -> list[RescoredCheckpoint]:
    """Score checkpoints in processes that took no part in the search, at most ``processes`` at once.

    standby: a process that was started before; it ends here.

    Importing takes longer than scoring, so each process takes a share; a share whose process dies is scored again one
    by one, so that a checkpoint that kills its process affects no other.
    """
    training = rescoring.training
    remote = ray.remote(
        num_cpus=training.cpus_per_worker,
        num_gpus=1 if training.gpus_per_worker else 0,
        max_calls=1,  # the process ends with the call
        max_retries=0,
    )(rescore)
    found: dict[str, RescoredCheckpoint] = {}
    shares = [list(checkpoints[start::processes]) for start in range(min(processes, len(checkpoints)))]
    waiting = [
        (share, remote.remote(share, rescoring) if number or not standby else standby.rescore(share))
        for number, share in enumerate(shares)
    ]
    alone: list[str] = []
    for share, reference in waiting:
        try:
            rescored: list[RescoredCheckpoint] = ray.get(reference)
            found.update(zip(share, rescored, strict=True))
        except ray.exceptions.RayError:
            alone += share
    if standby is not None:
        standby.end()
    for checkpoint in alone:
        try:
            found[checkpoint] = ray.get(remote.remote([checkpoint], rescoring))[0]
        except ray.exceptions.RayError as error:
            reason = f"the process that scored it died: {type(error).__name__}: {error}"
            found[checkpoint] = RescoredCheckpoint({}, {}, [], [], reason)
    return [found[checkpoint] for checkpoint in checkpoints]
