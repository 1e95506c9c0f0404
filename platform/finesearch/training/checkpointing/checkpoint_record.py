"""``finesearch.json``: a checkpoint's base model, recipe, seed, evaluations and library versions."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from finesearch.errors import CheckpointError
from finesearch.plan import Recipe
from finesearch.training.model.base_reference import BaseReference
from finesearch.training.trial_types import Evaluation, FrozenRecord

FILE = "finesearch.json"


class CheckpointRecord(FrozenRecord):
    """All that is needed to load the checkpoint, to resume training from it, and to report it.

    ``history`` ends with this checkpoint's evaluation. ``trained`` names the tensors in
    ``model.safetensors``; all others are the base's.
    """

    format: int = 1
    base: BaseReference
    kind: str
    facts: dict[str, Any]
    trial: int
    attempt: int
    seed: int
    recipe: Recipe
    metric: str
    goal: str
    history: tuple[Evaluation, ...]
    trained: tuple[str, ...]
    trainable_parameters: int
    total_parameters: int
    zero_stage: int
    workers: int
    precision: str
    versions: Mapping[str, str]

    @property
    def evaluation(self) -> Evaluation:
        return self.history[-1]

    @property
    def content(self) -> bytes:
        """The file's content."""
        return (self.model_dump_json(indent=1) + "\n").encode()

    def write(self, folder: Path) -> None:
        (folder / FILE).write_bytes(self.content)


def read_record(folder: Path) -> CheckpointRecord:
    """The record of a checkpoint folder whose manifest has been verified.

    Raises:
        CheckpointError: another program, or another version of this one, wrote it.
    """
    path = folder / FILE
    try:
        return CheckpointRecord.model_validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        raise CheckpointError(
            f"{path}: expected the record of a finesearch checkpoint (format 1), got something else: {error}"
        ) from error


@cache
def library_versions() -> dict[str, str]:
    """Versions of all libraries that could change the results."""
    from importlib.metadata import version

    import finesearch

    libraries = ("torch", "transformers", "deepspeed", "peft", "safetensors", "tokenizers")
    return {"finesearch": finesearch.__version__, **{name: version(name) for name in libraries}}
