"""Messages between driver, trial actor and workers. Ray carries them as they are, Ray Tune as JSON."""

from __future__ import annotations

import json
from dataclasses import dataclass

from pydantic import BaseModel, Field, TypeAdapter

from finesearch.training.trial_types import Evaluation, FrozenRecord, TrialResult, TrialSpec


class Job(TrialSpec):
    """A trial that the driver assigns to a trial actor; the mailbox sets ``attempt``.

    ``number`` counts within ``study``. ``decided`` is the number of the last evaluation whose verdict is journaled: a
    resumed trial reports its history again, and nothing up to there is judged twice.
    """

    study: str
    decided: int = Field(default=0, ge=0)


@dataclass(frozen=True)
class HandOut:
    """A job as the workers of one group receive it; ``generation`` is its sequence number in their mailbox."""

    generation: int
    job: Job


@dataclass(frozen=True)
class MailboxClosed:
    """There are no more jobs: the workers return."""


class EvaluationReport(Evaluation):
    """An evaluation with its worker group; ``began``: Unix seconds at which the group took the trial."""

    group: str
    began: float


class TrialCompleted(FrozenRecord):
    """A trial ran to its end.

    ``result`` lacks its history. ``last`` is the evaluation that the trial ended with, where it was not reported: no
    worker waits for its verdict, so it is judged and journaled with the end.
    """

    result: TrialResult
    last: EvaluationReport | None
    group: str
    began: float


class TrialFailed(FrozenRecord):
    """A trial cannot continue; where it ``is_fatal``, no other could either.

    ``error`` names the class of the exception. Without a ``group``, the mailbox gave the trial up.
    """

    reason: str
    error: str | None = None
    is_fatal: bool = False
    group: str | None = None
    began: float | None = None


TrialEnd = TrialCompleted | TrialFailed
TrialEvent = EvaluationReport | TrialEnd

_EVENTS: TypeAdapter[TrialEvent] = TypeAdapter(TrialEvent)


def to_json(message: BaseModel) -> str:
    """A job or an event as Ray Tune carries it."""
    # model_dump_json would write null for a metric that is not a number.
    return json.dumps(message.model_dump(mode="json"))


def parse_job(text: str) -> Job:
    """The job that :func:`to_json` wrote."""
    return Job.model_validate_json(text)


def parse_event(text: str) -> TrialEvent:
    """The event that :func:`to_json` wrote; no two kinds have the same required fields."""
    return _EVENTS.validate_json(text)
