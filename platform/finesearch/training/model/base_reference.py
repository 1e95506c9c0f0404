"""Which base model a checkpoint was trained from: name, folder and SHA-256 of the weights."""

from __future__ import annotations

from finesearch.training.trial_types import FrozenRecord


class BaseReference(FrozenRecord):
    """The base model of a checkpoint: as the plan names it, where it was found, and the hash that identifies it."""

    model: str
    revision: str | None
    folder: str
    sha256: str
