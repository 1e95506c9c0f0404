"""How far the running trials have come between two evaluations, read from the mailboxes of their worker groups."""

from __future__ import annotations

from typing import Any

import ray

from finesearch.training.trial_types import StepProgress

ANSWER_WITHIN_S = 1.0
LiveTrials = dict[tuple[str, int], StepProgress]
"""By study and trial number."""


def mailbox_prefix(run: str) -> str:
    """Names of a run's mailboxes begin with it."""
    return f"finesearch-mailbox-{run}-"


def read_live_trials(run: str) -> LiveTrials:
    """What the workers of a run have told last; of groups that do not answer in time, nothing."""
    try:
        names = [name for name in ray.util.list_named_actors() if name.startswith(mailbox_prefix(run))]
        asked = [mailbox.live.remote() for mailbox in map(_find, names) if mailbox is not None]
        answered, _ = ray.wait(asked, num_returns=len(asked), timeout=ANSWER_WITHIN_S) if asked else ([], [])
        told = [ray.get(answer) for answer in answered]
    except ray.exceptions.RayError:
        return {}
    return {(study, number): progress for study, number, progress in filter(None, told)}


def _find(name: str) -> Any:
    try:
        return ray.get_actor(name)
    except ValueError:  # it has ended since
        return None
