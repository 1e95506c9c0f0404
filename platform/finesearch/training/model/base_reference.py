"""Which base model a checkpoint was trained from."""

from __future__ import annotations

from finesearch.training.trial_types import FrozenRecord


class BaseReference(FrozenRecord):
    """Which base model the tensors belong onto: as the plan names it, where it was found, and what identifies it."""

    model: str
    revision: str | None
    folder: str
    sha256: str
