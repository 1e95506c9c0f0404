"""Spec, evaluations and result of a trial: frozen types that cross processes as JSON."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from finesearch.plan import Recipe


class FrozenRecord(BaseModel):
    """Immutable, complete, and strict about unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class TrialSpec(FrozenRecord):
    """One trial to run: everything that a warm worker needs beyond its runner.

    ``attempt`` counts how often this trial was assigned to a worker, from 1. It is the fencing token of checkpoints: an
    attempt never deletes what a later one wrote, and a superseded attempt stops at its next checkpoint.

    ``bar``: the metric that the trial must reach to be ranked at all; weights that do not reach it are not written.
    ``may_be_stopped``: the caller may stop the trial after any report and rank what is durable then, so weights that
    reach the bar are written before their evaluation is reported.
    ``resume_pays``: resume state is written when training since the last one took this many times as long as writing
    it. A killed trial resumes from there.
    """

    number: int = Field(ge=0)
    attempt: int = Field(default=1, ge=1)
    seed: int = Field(default=0, ge=0)
    recipe: Recipe
    directory: str
    bar: float | None = None
    may_be_stopped: bool = False
    resume_pays: float = Field(default=10.0, ge=0)


class Evaluation(FrozenRecord):
    """Metrics and cost of a trial at one point of its training.

    ``step`` is the 1-based number of the evaluation, ``epoch`` the passes over the training split so far (0.5 is half
    of the first), ``train_loss`` the mean loss of the examples since the previous evaluation (None where nothing
    trains; never ``nan``: a trial that diverges raises instead), ``seconds`` and ``tokens`` the training cost so far,
    accumulated over resumes. ``seconds`` counts optimizer steps and evaluations, not loading and not writing
    checkpoints. ``tokens`` counts the training tokens of all ranks, without padding. ``trainable_parameters``
    is reported with every evaluation, since a pruned trial has no result. ``decision`` is what the task chose on
    validation (see ``Task.calibrate``); the checkpoint's later predictions use it.
    """

    step: int = Field(ge=1)
    epoch: float
    metrics: dict[str, float]
    train_loss: float | None
    seconds: float
    tokens: int
    trainable_parameters: int
    decision: dict[str, float] = {}


@dataclass(frozen=True)
class StepProgress:
    """How far a trial has come after an optimizer step.

    epoch: passes over the training split so far, of ``epochs``. tokens_per_s: training tokens of all ranks, without
    padding. loss: the mean since the last evaluation, as of a recent step; None where none was read yet.
    """

    epoch: float
    epochs: int
    tokens_per_s: float
    loss: float | None = None


class TrialResult(FrozenRecord):
    """The result of one call of ``TrialRunner.run``.

    ``stopped``: the caller stopped the trial (``report`` returned False); a trial that used up its epochs or its
    early-stopping patience is not stopped. ``checkpoint`` is the folder of ``best``, None if that does not reach the
    spec's ``bar`` or the trial was stopped; ``checkpoint_bytes`` is its loadable size (without optimizer state).
    ``notes`` are facts for the report, ``warnings`` possible problems.
    """

    stopped: bool
    best: Evaluation | None
    history: tuple[Evaluation, ...]
    checkpoint: str | None
    trainable_parameters: int
    total_parameters: int
    seconds: float
    tokens: int
    checkpoint_bytes: int
    warnings: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


class ScoredPredictions(FrozenRecord):
    """A checkpoint scored on one split: every metric of the task, the predictions behind them, and the decision."""

    metrics: dict[str, float]
    predictions: list[Any]
    references: list[Any]
    decision: dict[str, float] = {}


class Preempted(Exception):  # noqa: N818 - not an error: it ends an attempt that resumes elsewhere
    """Preemption: the trial's state was written, and this attempt ends here; raised on every rank."""
