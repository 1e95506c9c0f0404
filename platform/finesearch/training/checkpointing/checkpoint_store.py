"""Checkpoint store of one trial: a folder, or an object store (S3, GCS) that this process uploads to and fetches from.

A trial always works on a folder. If that folder is the storage itself, the store has nothing to do. With an object
store, the folder is scratch space of this process, deleted with the attempt, and these are the differences:

complete      a checkpoint is complete once its ``manifest.json`` exists, which is written last; there is no rename
ranks         each rank uploads its own part, with a list of sizes and checksums; rank 0 joins them in the manifest
resume        complete checkpoints are fetched first
quarantine    damaged checkpoints are moved to ``*.quarantined`` in the store, too
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from finesearch.storage import checksummed_dirs
from finesearch.storage.checksummed_dirs import MANIFEST
from finesearch.storage.object_store import ObjectStore
from finesearch.storage.open_store import open_store
from finesearch.storage.scratch_dir import ScratchDir
from finesearch.storage.store import LocalCopy
from finesearch.training.checkpointing.checkpoint_layout import (
    QUARANTINED,
    RESULT,
    RESUME,
    attempts_by_name,
    refuse_later_attempts,
)

PART = "part-{rank}.json"
LAST = (f"{RESUME}/{MANIFEST}", MANIFEST)


class CheckpointStore:
    """A trial's folder as the storage itself; also the interface of every other store."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def fetch(self) -> None:
        """Fetch the trial's saved state into the folder."""

    def fetch_checkpoint(self, name: str) -> None:
        """Fetch one checkpoint into the folder."""

    def quarantine_damaged(self) -> None:
        """Quarantine in the store the checkpoints that were found damaged in the folder since :meth:`fetch`."""

    def refuse_if_superseded(self, attempt: int) -> None:
        """Fencing: check that no later attempt has saved anything.

        Raises:
            TrialError: one has.
        """

    def begin(self, name: str) -> None:
        """Prepare for a checkpoint of this name; on rank 0, before any rank writes."""

    def begin_part(self, folder: Path) -> None:
        """Prepare the folder for the part of a checkpoint that a rank other than 0 writes."""

    def send_part(self, folder: Path, name: str, rank: int) -> None:
        """Save the part of checkpoint ``name`` that a rank other than 0 has written."""

    def parts(self, name: str) -> dict[str, dict[str, int | str]]:
        """Sizes and checksums of the other ranks' parts of the resume state."""
        return {}

    def save_checkpoint(self, checkpoint: Path) -> None:
        """Save a complete checkpoint; it is durable when this returns."""

    def remove_all_but(self, kept: set[Path], attempt: int) -> None:
        """Delete the checkpoints of this attempt and earlier ones, except those in ``kept``."""

    def finish(self, result: bytes, checkpoint: Path | None, attempt: int) -> None:
        """Save a trial's result and its one remaining checkpoint, without the resume state."""

    def address(self, checkpoint: str) -> str:
        """The path or URI by which other processes find a checkpoint."""
        return checkpoint


class ObjectCheckpointStore(CheckpointStore):
    """A trial's "folder" in an object store.

    Raises:
        StorageError: from every method, when a request is refused or gets no answer.
    """

    def __init__(self, store: ObjectStore, folder: Path) -> None:
        super().__init__(folder)
        self._store = store
        self._sent: set[str] = set()
        self._damaged: set[str] = set()

    def fetch(self) -> None:
        names = self._store.files()
        whole = self._kept(names)
        wanted = [name for name in names if name == RESULT or name.partition("/")[0] in whole]
        self._store.download(self.folder, wanted)
        self._sent = {name.partition("/")[0] for name in wanted if name != RESULT}
        # Empty folders: their names record that checkpoints existed.
        self._damaged = {top for top in (name.partition("/")[0] for name in names) if top.endswith(QUARANTINED)}
        for name in self._damaged:
            (self.folder / name).mkdir(exist_ok=True)

    def fetch_checkpoint(self, name: str) -> None:
        if name not in self._sent:
            self._store.child(name).download(self.folder / name)
            self._sent.add(name)

    def quarantine_damaged(self) -> None:
        for folder in self.folder.glob(f"*{QUARANTINED}"):
            if folder.name not in self._damaged:
                name = folder.name.removesuffix(QUARANTINED).partition(".")[0]
                self._store.child(name).move(self._store.child(folder.name))
                self._sent.discard(name)

    def refuse_if_superseded(self, attempt: int) -> None:
        refuse_later_attempts(self._store.shown, self._kept(self._store.files()).values(), attempt)

    def begin(self, name: str) -> None:
        self._remove(name)

    def begin_part(self, folder: Path) -> None:
        checksummed_dirs.remove_folder(folder)
        (folder / RESUME).mkdir(parents=True)

    def send_part(self, folder: Path, name: str, rank: int) -> None:
        files = {path.name: checksummed_dirs.flushed(path) for path in sorted((folder / RESUME).iterdir())}
        (folder / RESUME / PART.format(rank=rank)).write_text(json.dumps(files), encoding="utf-8")
        self._store.child(name).upload(folder)
        checksummed_dirs.remove_folder(folder)

    def parts(self, name: str) -> dict[str, dict[str, int | str]]:
        kept = self._store.child(name, RESUME)
        lists = [each for each in kept.files() if each.startswith("part-")]
        return {file: said for each in lists for file, said in json.loads(kept.read(each) or b"{}").items()}

    def save_checkpoint(self, checkpoint: Path) -> None:
        self._store.child(checkpoint.name).upload(checkpoint, LAST)
        self._sent.add(checkpoint.name)

    def remove_all_but(self, kept: set[Path], attempt: int) -> None:
        there = self._kept(self._store.files())
        for name in there.keys() - {path.name for path in kept}:
            if there[name] <= attempt:
                self._remove(name)

    def finish(self, result: bytes, checkpoint: Path | None, attempt: int) -> None:
        self.refuse_if_superseded(attempt)
        if checkpoint is not None and checkpoint.name not in self._sent:
            self.save_checkpoint(checkpoint)
        self._store.write(RESULT, result)
        self.remove_all_but(set() if checkpoint is None else {checkpoint}, attempt)
        if checkpoint is not None:
            self._store.child(checkpoint.name, RESUME).delete(last=MANIFEST)

    def address(self, checkpoint: str) -> str:
        return self._store.child(Path(checkpoint).name).uri

    def _kept(self, names: dict[str, float]) -> dict[str, int]:
        """The complete checkpoints and preemption states among ``names``, with the attempt of each."""
        return attempts_by_name(name.removesuffix(f"/{MANIFEST}") for name in names)

    def _remove(self, name: str) -> None:
        # Without its manifest it is not a checkpoint, whatever other files remain.
        self._store.child(name).delete_file(MANIFEST)
        self._store.child(name).delete()
        self._sent.discard(name)


@contextmanager
def open_checkpoint_store(directory: str) -> Iterator[CheckpointStore]:
    """The checkpoint store for ``directory``, a folder or a URI."""
    store = open_store(directory)
    if not isinstance(store, ObjectStore):
        yield CheckpointStore(store.local_copy().folder)
        return
    with ScratchDir() as scratch, LocalCopy(scratch.folder(store.name), store.shown).errors_naming_store() as folder:
        yield ObjectCheckpointStore(store, folder)
