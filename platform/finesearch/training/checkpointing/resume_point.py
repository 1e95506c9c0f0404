"""Resume: finds what earlier attempts at a trial have left, and the checkpoint or preemption state to resume from."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

from pydantic import ValidationError

from finesearch.errors import CheckpointError
from finesearch.plan import Recipe
from finesearch.storage import checksummed_dirs
from finesearch.training.checkpointing import checkpoint_layout
from finesearch.training.checkpointing.checkpoint_record import CheckpointRecord, read_record
from finesearch.training.checkpointing.checkpoint_store import CheckpointStore
from finesearch.training.checkpointing.preemption_state import goes_further, newest_preemption_state
from finesearch.training.trial_types import TrialResult, TrialSpec


@dataclass(frozen=True)
class ResumePoint:
    """What earlier attempts at a trial have left: the same on every rank.

    ``result`` is set if the trial had ended. ``record`` is that of the checkpoint to resume from, or of ``paused``, if
    that is newer; ``kept`` are the intact checkpoints by evaluation number.
    """

    result: TrialResult | None = None
    record: CheckpointRecord | None = None
    kept: dict[int, Path] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    paused: Path | None = None

    @property
    def folder(self) -> Path:
        """The folder to resume from."""
        assert self.record is not None
        return self.paused or self.kept[self.record.evaluation.step]


def find_resume_point(spec: TrialSpec, store: CheckpointStore) -> ResumePoint:
    """Search the trial's folder. Damaged checkpoints are quarantined; leftovers of interrupted writes are deleted.

    Raises:
        CheckpointError: every checkpoint is damaged, or they belong to another trial.
    """
    directory = store.folder
    with checksummed_dirs.disk_full_as_error(directory):
        directory.mkdir(parents=True, exist_ok=True)
        store.fetch()
    checkpoint_layout.remove_leftovers(directory, spec.attempt)
    try:
        intact, warnings = checkpoint_layout.intact_checkpoints(directory)
    finally:
        store.quarantine_damaged()
    kept = {checkpoint.step: checkpoint.path for checkpoint in intact}
    path = directory / checkpoint_layout.RESULT
    if path.is_file():
        try:
            result = TrialResult.model_validate_json(path.read_bytes())
        except (OSError, ValidationError) as error:
            raise CheckpointError(
                f"{path}: expected the result of this trial, as finesearch wrote it, got something else. Restore the "
                "file from a copy, or delete it: the trial goes on from its last checkpoint."
            ) from error
        if result.checkpoint is None:
            return ResumePoint(result=result, warnings=tuple(warnings))
        if Path(result.checkpoint).name in {checkpoint.path.name for checkpoint in intact}:
            return ResumePoint(result=_at_home(result, directory), warnings=tuple(warnings))
    resumable = [checkpoint for checkpoint in intact if checkpoint.can_resume]
    paused = newest_preemption_state(directory)
    if paused is not None and resumable and not goes_further(read_record(paused), resumable[-1].step):
        paused = None
    if paused is None and not resumable:
        return ResumePoint(kept=kept, warnings=tuple(warnings))
    source = paused or resumable[-1].path
    record = read_record(source)
    if record.recipe != as_begun(spec.recipe, record.recipe) or record.seed != spec.seed:
        raise CheckpointError(
            f"{source}: expected a checkpoint of trial {spec.number} with seed {spec.seed} and recipe "
            f"{spec.recipe.model_dump()}, got one of trial {record.trial} with seed {record.seed} and recipe "
            f"{record.recipe.model_dump()}. Give every trial a folder of its own."
        )
    return ResumePoint(record=record, kept=kept, warnings=tuple(warnings), paused=paused)


def as_begun(recipe: Recipe, begun: Recipe) -> Recipe:
    """The recipe of a trial that was begun with ``begun``, maybe by a version that knew no pooling: it had ``own``."""
    # Checkpoints that such a trial wrote since then name it.
    is_kept = begun.pooling == "own" and recipe.pooling == "auto"
    if "pooling" in begun.model_fields_set and not is_kept:
        return recipe
    return recipe.model_copy(update={"pooling": begun.pooling})


def fetch_resume_point(resume_point: ResumePoint, store: CheckpointStore) -> ResumePoint:
    """The resume point that rank 0 found, with the checkpoint fetched into this process's folder."""
    kept = {step: store.folder / path.name for step, path in resume_point.kept.items()}
    paused = None if resume_point.paused is None else store.folder / resume_point.paused.name
    here = replace(resume_point, kept=kept, paused=paused)
    if here.record is not None:
        store.fetch_checkpoint(here.folder.name)
    return here


def _at_home(result: TrialResult, directory: Path) -> TrialResult:
    """The result with its checkpoint's path adapted to the trial's current folder."""
    assert result.checkpoint is not None
    return result.model_copy(update={"checkpoint": str(directory / Path(result.checkpoint).name)})
