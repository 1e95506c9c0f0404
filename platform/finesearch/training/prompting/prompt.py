"""``prompt.json``: the prompt in the checkpoint of a trial that trains nothing; such a checkpoint has no weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from finesearch.errors import CheckpointError
from finesearch.training.prompting.scoring.prompt_spec import PromptSpec

FILE = "prompt.json"
_FORMAT = TypeAdapter(PromptSpec)


def write_prompt(prompt: PromptSpec, folder: Path) -> None:
    """Write ``prompt.json``."""
    (folder / FILE).write_bytes(_FORMAT.dump_json(prompt, indent=1) + b"\n")


def prompt_settings(prompt: PromptSpec) -> dict[str, Any]:
    """A prompt as a JSON object."""
    settings: dict[str, Any] = _FORMAT.dump_python(prompt, mode="json")
    return settings


def read_prompt(folder: Path) -> PromptSpec:
    """The prompt of a checkpoint whose manifest has been verified.

    Raises:
        CheckpointError: another version of this program wrote it.
    """
    try:
        return _FORMAT.validate_json((folder / FILE).read_bytes())
    except (OSError, ValidationError) as error:
        raise CheckpointError(f"{folder / FILE}: expected a prompt, got something else: {error}") from error
