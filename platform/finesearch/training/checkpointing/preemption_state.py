"""Preemption state: a trial's state between two evaluations, written when its processes are about to be preempted.

    <trial>/paused-000123-a1/    after 123 optimizer steps, by attempt 1: a checkpoint's files, resume/ and pause.json

It belongs to no evaluation, is never ranked, and is deleted once the trial has a newer state to resume from.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from pydantic import ValidationError

from finesearch.errors import CheckpointError
from finesearch.storage import checksummed_dirs
from finesearch.training.checkpointing.checkpoint_layout import (
    PARTS,
    PAUSED,
    RESUME,
    discarded_on_failure,
    refuse_if_superseded,
)
from finesearch.training.checkpointing.checkpoint_record import CheckpointRecord
from finesearch.training.checkpointing.checkpoint_writer import CheckpointWriter, Snapshot
from finesearch.training.trial_types import FrozenRecord

FILE = "pause.json"

PreemptionCheck = Callable[[], bool]
"""Called by all ranks together, seconds apart: True when processes of the trial are about to be preempted."""


class PreemptionState(FrozenRecord):
    """A trial's progress: ``step`` optimizer steps in ``seconds`` of training; the loss since the last evaluation, over
    all ranks."""

    step: int
    loss_sum: float
    loss_units: float
    seconds: float
    tokens: int


def write_preemption_state(writer: CheckpointWriter, snapshot: Snapshot, pause: PreemptionState) -> Path:
    """Write a snapshot with resume state, by all ranks together; durable when this returns.

    Raises:
        DiskFullError, TrialError: on every rank.
    """
    processes, name = writer.processes, f"paused-{pause.step:06d}-a{writer.attempt}"
    temporary = writer.directory / f".tmp-{name}"

    def begin() -> None:
        writer.store.refuse_if_superseded(writer.attempt)
        refuse_if_superseded(writer.directory, writer.attempt)
        checksummed_dirs.remove_folder(temporary)
        with discarded_on_failure(temporary):
            (temporary / RESUME).mkdir(parents=True)
            writer.store.begin(name)

    def complete() -> None:
        with discarded_on_failure(temporary):
            (temporary / FILE).write_text(pause.model_dump_json(), encoding="utf-8")
            checksummed_dirs.write_manifest(temporary / RESUME, writer.store.parts(name))
            checksummed_dirs.write_manifest(temporary)
            checksummed_dirs.rename_synced(temporary, writer.directory / name)
            writer.store.save_checkpoint(writer.directory / name)

    processes.run_on_rank_zero(begin)
    problem: Exception | None = None
    try:
        writer.write_into(temporary, name, snapshot)
    except Exception as error:  # raised below, on every rank
        problem = error
    processes.raise_on_all_ranks(problem)
    processes.run_on_rank_zero(complete)
    return writer.directory / name


def newest_preemption_state(directory: Path) -> Path | None:
    """The folder of the newest intact state."""
    found = sorted((match, path) for path, match in _numbered(directory))
    intact = [
        path
        for _, path in found
        if not checksummed_dirs.damage(path) and not checksummed_dirs.damage(path / RESUME, beside=PARTS)
    ]
    return intact[-1] if intact else None


def read_preemption_state(folder: Path) -> PreemptionState:
    """The state in a folder of :func:`newest_preemption_state`.

    Raises:
        CheckpointError: the file holds something else.
    """
    try:
        return PreemptionState.model_validate_json((folder / FILE).read_bytes())
    except (OSError, ValidationError) as error:
        raise CheckpointError(
            f"{folder / FILE}: expected the state of a paused trial, as finesearch wrote it, got something else. "
            f"Restore the file from a copy, or delete the folder {folder.name}: the trial goes on from its last "
            "checkpoint."
        ) from error


def goes_further(pause: CheckpointRecord, step: int) -> bool:
    """Whether a preemption state is beyond evaluation ``step``, the newest that has a resumable checkpoint."""
    return len(pause.history) >= step


def _numbered(directory: Path) -> list[tuple[Path, tuple[int, int]]]:
    if not directory.is_dir():
        return []
    matches = ((path, PAUSED.fullmatch(path.name)) for path in directory.iterdir())
    return [(path, (int(match[1]), int(match[2]))) for path, match in matches if match]
