"""Layout of a trial's checkpoint folders: listing, verifying against checksums (manifests), quarantine, deletion.

    <trial>/step-0003-a1/    evaluation 3, written by attempt 1
        model.safetensors  config.json  tokenizer…  finesearch.json  manifest.json     the loadable model
        resume/            optimizer-rank0.safetensors …  manifest.json                the state to resume from
                           raw.safetensors   the weights themselves, where model.safetensors holds averaged ones
    <trial>/paused-000123-a1/    see preemption_state.py
    <trial>/result.json      once the trial has used up its epochs or its patience
    <trial>/step-0002-a1.quarantined    did not match its manifest

``checkpoint_policy.py`` decides which evaluations are written. While a trial runs, the best one written and the newest
resumable one are kept; if they are the same, also an earlier one, so that damage to the newest does not lose the trial.
When the trial is done, only the best stays, without ``resume``; none stays if the trial cannot be ranked.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from finesearch.errors import CheckpointError, TrialError
from finesearch.storage import checksummed_dirs

RECORD = "finesearch.json"
PARTS = "part-*.json"
"""Lists of what other ranks uploaded to an object store; read before the manifest was written, and never again."""
RESUME = "resume"
RESULT = "result.json"
NAME = re.compile(r"step-(\d{4,})-a(\d+)")
TEMPORARY = re.compile(r"\.(?:tmp|gone)-(?:step|paused)-\d{4,}-a(\d+)")
PAUSED = re.compile(r"paused-(\d{6,})-a(\d+)")
QUARANTINED = ".quarantined"


@dataclass(frozen=True, order=True)
class Checkpoint:
    """One complete folder; ordered by evaluation number, then by attempt."""

    step: int
    attempt: int
    path: Path

    @property
    def can_resume(self) -> bool:
        return (self.path / RESUME).is_dir()

    def damage(self) -> str | None:
        """Description of the damage according to the manifests; None if intact."""
        problem = checksummed_dirs.damage(self.path)
        if problem is None and self.can_resume:
            problem = checksummed_dirs.damage(self.path / RESUME, beside=PARTS)
        return problem


def list_checkpoints(directory: Path) -> list[Checkpoint]:
    """Every complete checkpoint of a trial, oldest first."""
    if not directory.is_dir():
        return []
    matches = ((path, NAME.fullmatch(path.name)) for path in directory.iterdir())
    return sorted(Checkpoint(int(match[1]), int(match[2]), path) for path, match in matches if match)


def intact_checkpoints(directory: Path) -> tuple[list[Checkpoint], list[str]]:
    """The checkpoints that match their manifests, oldest first, and a warning for each that does not.

    A damaged one is renamed ``*.quarantined`` and ignored from then on.

    Raises:
        CheckpointError: there are checkpoints (or were, before they were quarantined), and none is intact.
    """
    found, warnings = [], []
    for checkpoint in list_checkpoints(directory):
        problem = checkpoint.damage()
        if problem is None:
            found.append(checkpoint)
            continue
        quarantine = _quarantine(checkpoint.path)
        warnings.append(
            f"Checkpoint {checkpoint.path.name} is damaged ({problem}); it was set aside as {quarantine.name}."
        )
    quarantined = sorted(directory.glob(f"*{QUARANTINED}")) if directory.is_dir() else []
    if quarantined and not found:
        raise CheckpointError(
            f"{directory}: every checkpoint of this trial is damaged: {' '.join(warnings) or quarantined[-1].name} "
            f"The trial is not started again from nothing; delete the folder to train it anew."
        )
    return found, warnings


def check_intact(folder: Path, required: Iterable[str] = (RECORD,)) -> None:
    """Verify one checkpoint folder before anything in it is read; ``required``: names that it must have.

    Raises:
        CheckpointError: it has no manifest, or does not match it.
    """
    problem = checksummed_dirs.damage(folder, required)
    if problem is not None:
        raise CheckpointError(
            f"{folder}: the checkpoint does not match its manifest: {problem}. Restore the folder from a copy, or rank "
            f"another trial's checkpoint."
        )


def temporary_folder(directory: Path, step: int, attempt: int) -> Path:
    """The folder in which a checkpoint is written; the same name on every rank."""
    return directory / f".tmp-step-{step:04d}-a{attempt}"


def complete_folder(directory: Path, step: int, attempt: int) -> Path:
    """The folder of a complete checkpoint; the same name on every rank."""
    return directory / f"step-{step:04d}-a{attempt}"


def begin(directory: Path, step: int, attempt: int, with_resume: bool) -> Path:
    """Make the empty temporary folder.

    Raises:
        TrialError: see ``refuse_if_superseded``.
    """
    refuse_if_superseded(directory, attempt)
    folder = temporary_folder(directory, step, attempt)
    checksummed_dirs.remove_folder(folder)
    (folder / RESUME if with_resume else folder).mkdir(parents=True)
    return folder


def refuse_if_superseded(directory: Path, attempt: int) -> None:
    """Fencing: check that no later attempt at this trial has written here.

    Raises:
        TrialError: one has, so this attempt is superseded.
    """
    refuse_later_attempts(directory, attempts_by_name(path.name for path in directory.glob("*")).values(), attempt)


def refuse_later_attempts(where: Path | str, attempts: Iterable[int], attempt: int) -> None:
    """Check that none of ``attempts``, which have written to ``where``, is later than ``attempt``.

    Raises:
        TrialError: one is.
    """
    latest = max(attempts, default=0)
    if latest > attempt:
        raise TrialError(
            f"{where}: attempt {attempt} found a checkpoint of attempt {latest}, which has taken its place. "
            f"Nothing was written."
        )


def attempts_by_name(names: Iterable[str]) -> dict[str, int]:
    """Those of ``names`` that are checkpoints or preemption states, with the attempt of each.

    >>> attempts_by_name(["step-0003-a1", "paused-000123-a2", "result.json"])
    {'step-0003-a1': 1, 'paused-000123-a2': 2}
    """
    matches = ((name, NAME.fullmatch(name) or PAUSED.fullmatch(name)) for name in names)
    return {name: int(match[2]) for name, match in matches if match}


def complete(
    temporary: Path, step: int, attempt: int, elsewhere: Mapping[str, Mapping[str, int | str]] | None = None
) -> Checkpoint:
    """Write the manifests, fsync everything, and rename the folder: from then on it is a checkpoint.

    elsewhere: see ``write_manifest``; for the resume state.
    """
    if (temporary / RESUME).is_dir():
        checksummed_dirs.write_manifest(temporary / RESUME, elsewhere)
    checksummed_dirs.write_manifest(temporary)
    path = complete_folder(temporary.parent, step, attempt)
    # The same attempt writes the same step twice only if it was restarted in between: the existing one is equal.
    checksummed_dirs.remove_folder(path)
    checksummed_dirs.rename_synced(temporary, path)
    return Checkpoint(step, attempt, path)


@contextmanager
def discarded_on_failure(temporary: Path) -> Iterator[None]:
    """Delete a half-written folder on failure, and name the folder in the error when the disk is full."""
    try:
        with checksummed_dirs.disk_full_as_error(temporary.parent):
            yield
    except BaseException:
        checksummed_dirs.remove_folder(temporary)
        raise


def remove_all_but(directory: Path, kept: set[Path], attempt: int) -> None:
    """Delete checkpoints and temporary folders of this attempt and earlier ones, except those in ``kept``."""
    for checkpoint in list_checkpoints(directory):
        if checkpoint.path not in kept and checkpoint.attempt <= attempt:
            checksummed_dirs.remove_folder(checkpoint.path)
    remove_preemption_states(directory, attempt, kept)
    remove_leftovers(directory, attempt)


def remove_preemption_states(directory: Path, attempt: int, kept: Collection[Path] = ()) -> None:
    """Delete preemption states of this attempt and earlier ones, except those in ``kept``."""
    for path in directory.iterdir() if directory.is_dir() else ():
        match = PAUSED.fullmatch(path.name)
        if match and int(match[2]) <= attempt and path not in kept:
            checksummed_dirs.remove_folder(path)


def remove_leftovers(directory: Path, attempt: int) -> None:
    """Delete temporary folders of interrupted writes of this attempt and earlier ones."""
    for path in directory.iterdir() if directory.is_dir() else ():
        match = TEMPORARY.fullmatch(path.name)
        if match and int(match[1]) <= attempt:
            checksummed_dirs.remove_folder(path)


def drop_resume_state(directory: Path) -> None:
    """Delete the optimizer state of every checkpoint of a trial: they can still be loaded, but not resumed.

    For trials that will never be resumed, such as pruned ones.
    """
    for checkpoint in list_checkpoints(directory):
        checksummed_dirs.remove_folder(checkpoint.path / RESUME)
    remove_preemption_states(directory, sys.maxsize)


def _quarantine(path: Path) -> Path:
    for number in range(1000):
        target = path.with_name(f"{path.name}{f'.{number}' if number else ''}{QUARANTINED}")
        if not os.path.lexists(target):
            checksummed_dirs.rename_synced(path, target)
            return target
    raise AssertionError(f"{path.parent} holds a thousand quarantined folders")
