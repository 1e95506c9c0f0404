"""Where the checkpoints of one trial are kept: a folder, or an object store that this process copies to and from.

A trial always works on a folder. Where that folder is storage itself, a store has nothing to do. Where storage is an
object store, the folder is scratch of this process alone, gone with the attempt, and these are the differences:

complete      a checkpoint counts once its ``manifest.json`` is there, which is written last; there is no rename
several ranks each sends its own part, with a list of sizes and hashes; rank 0 joins them in the manifest
going on      what is complete is fetched before anything is looked for
set aside     what was found damaged is moved to ``*.quarantined`` in the store, too
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
    """A trial's folder that is storage itself; also what every other kind has to offer."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def fetch(self) -> None:
        """Bring what was kept into the folder."""

    def fetch_checkpoint(self, name: str) -> None:
        """Bring one checkpoint into the folder."""

    def quarantine_damaged(self) -> None:
        """Keep apart what was found damaged in the folder since :meth:`fetch`."""

    def refuse_if_superseded(self, attempt: int) -> None:
        """See that no later attempt has kept anything.

        Raises:
            TrialError: one has.
        """

    def begin(self, name: str) -> None:
        """Make room for a checkpoint of this name; on rank 0, before any rank writes."""

    def begin_part(self, folder: Path) -> None:
        """Make room for what a rank other than the first writes of a checkpoint."""

    def send_part(self, folder: Path, name: str, rank: int) -> None:
        """Keep what a rank other than the first has written of checkpoint ``name``."""

    def parts(self, name: str) -> dict[str, dict[str, int | str]]:
        """Sizes and hashes of what other ranks have kept of the state to go on from."""
        return {}

    def save_checkpoint(self, checkpoint: Path) -> None:
        """Keep a complete checkpoint; when this returns it is durable."""

    def remove_all_but(self, kept: set[Path], attempt: int) -> None:
        """Forget the checkpoints of this attempt and earlier ones that are not among ``kept``."""

    def finish(self, result: bytes, checkpoint: Path | None, attempt: int) -> None:
        """Keep a trial's result and the one checkpoint that is left of it, without the state to go on from."""

    def address(self, checkpoint: str) -> str:
        """What others find a checkpoint of the folder by."""
        return checkpoint


class ObjectCheckpointStore(CheckpointStore):
    """A trial's "folder" in an object store.

    Raises:
        StorageError: from every method, when the store refuses or does not answer.
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
        # Their names alone say that there was something.
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
        """The complete checkpoints and states between evaluations among what is there, with the attempt of each."""
        return attempts_by_name(name.removesuffix(f"/{MANIFEST}") for name in names)

    def _remove(self, name: str) -> None:
        # Without its manifest it does not count, whatever else is still there.
        self._store.child(name).delete_file(MANIFEST)
        self._store.child(name).delete()
        self._sent.discard(name)


@contextmanager
def open_checkpoint_store(directory: str) -> Iterator[CheckpointStore]:
    """The store of a trial whose checkpoints belong to ``directory``, a folder or a URI."""
    store = open_store(directory)
    if not isinstance(store, ObjectStore):
        yield CheckpointStore(store.local_copy().folder)
        return
    with ScratchDir() as scratch, LocalCopy(scratch.folder(store.name), store.shown).errors_naming_store() as folder:
        yield ObjectCheckpointStore(store, folder)
