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
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

from finesearch.errors import FinesearchError, TrialError
from finesearch.storage import atomic_dirs
from finesearch.storage.atomic_dirs import MANIFEST
from finesearch.storage.object_store import Place, is_remote
from finesearch.training.checkpoints.checkpoint_layout import NAME, PAUSED, QUARANTINED, RESULT, RESUME, Checkpoint
from finesearch.training.checkpoints.scratch_dir import ScratchDir

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

    def __enter__(self) -> CheckpointStore:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """ScratchDir is not left behind."""


class ObjectCheckpointStore(CheckpointStore):
    """A trial's "folder" in an object store.

    Raises:
        StorageError: from every method, when the store refuses or does not answer.
    """

    def __init__(self, place: Place) -> None:
        self._scratch = ScratchDir()
        super().__init__(self._scratch.folder(place.name))
        self._place = place
        self._sent: set[str] = set()
        self._damaged: set[str] = set()

    def fetch(self) -> None:
        names = self._place.files()
        wanted = [name for name in names if name == RESULT or self._is_whole(name.partition("/")[0], names)]
        self._place.download(self.folder, wanted)
        self._sent = {name.partition("/")[0] for name in wanted if name != RESULT}
        # Their names alone say that there was something.
        self._damaged = {top for top in (name.partition("/")[0] for name in names) if top.endswith(QUARANTINED)}
        for name in self._damaged:
            (self.folder / name).mkdir(exist_ok=True)

    def fetch_checkpoint(self, name: str) -> None:
        if name not in self._sent:
            self._place.child(name).download(self.folder / name)
            self._sent.add(name)

    def quarantine_damaged(self) -> None:
        for folder in self.folder.glob(f"*{QUARANTINED}"):
            if folder.name not in self._damaged:
                name = folder.name.removesuffix(QUARANTINED).partition(".")[0]
                self._place.child(name).move(self._place.child(folder.name))
                self._sent.discard(name)

    def refuse_if_superseded(self, attempt: int) -> None:
        names = self._place.files()
        paused = self._paused(names).values()
        latest = max((*(each.attempt for each in self._complete(names)), *paused), default=0)
        if latest > attempt:
            raise TrialError(
                f"{self._place.shown}: attempt {attempt} found a checkpoint of attempt {latest}, which has taken its "
                "place. Nothing was written."
            )

    def begin(self, name: str) -> None:
        self._remove(name)

    def begin_part(self, folder: Path) -> None:
        atomic_dirs.remove_folder(folder)
        (folder / RESUME).mkdir(parents=True)

    def send_part(self, folder: Path, name: str, rank: int) -> None:
        files = {path.name: atomic_dirs.flushed(path) for path in sorted((folder / RESUME).iterdir())}
        (folder / RESUME / PART.format(rank=rank)).write_text(json.dumps(files), encoding="utf-8")
        self._place.child(name).upload(folder)
        atomic_dirs.remove_folder(folder)

    def parts(self, name: str) -> dict[str, dict[str, int | str]]:
        place = self._place.child(name, RESUME)
        lists = [each for each in place.files() if each.startswith("part-")]
        return {file: said for each in lists for file, said in json.loads(place.read(each) or b"{}").items()}

    def save_checkpoint(self, checkpoint: Path) -> None:
        self._place.child(checkpoint.name).upload(checkpoint, LAST)
        self._sent.add(checkpoint.name)

    def remove_all_but(self, kept: set[Path], attempt: int) -> None:
        names = self._place.files()
        there = {checkpoint.path.name: checkpoint.attempt for checkpoint in self._complete(names)} | self._paused(names)
        for name in there.keys() - {path.name for path in kept}:
            if there[name] <= attempt:
                self._remove(name)

    def finish(self, result: bytes, checkpoint: Path | None, attempt: int) -> None:
        self.refuse_if_superseded(attempt)
        if checkpoint is not None and checkpoint.name not in self._sent:
            self.save_checkpoint(checkpoint)
        self._place.write(RESULT, result)
        self.remove_all_but(set() if checkpoint is None else {checkpoint}, attempt)
        if checkpoint is not None:
            self._place.child(checkpoint.name, RESUME).delete(last=MANIFEST)

    def address(self, checkpoint: str) -> str:
        return self._place.child(Path(checkpoint).name).uri

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._scratch.close()
        if isinstance(error, FinesearchError) and str(self.folder) in error.message:
            raise type(error)(error.message.replace(str(self.folder), self._place.shown)) from error

    def _complete(self, names: dict[str, float]) -> list[Checkpoint]:
        matches = ((top, NAME.fullmatch(top)) for top in {name.partition("/")[0] for name in names})
        return sorted(
            Checkpoint(int(match[1]), int(match[2]), self.folder / top)
            for top, match in matches
            if match and self._is_whole(top, names)
        )

    def _paused(self, names: dict[str, float]) -> dict[str, int]:
        """Attempts of the states between evaluations, by name."""
        matches = ((top, PAUSED.fullmatch(top)) for top in {name.partition("/")[0] for name in names})
        return {top: int(match[1]) for top, match in matches if match and self._is_whole(top, names)}

    def _is_whole(self, top: str, names: dict[str, float]) -> bool:
        return bool(NAME.fullmatch(top) or PAUSED.fullmatch(top)) and f"{top}/{MANIFEST}" in names

    def _remove(self, name: str) -> None:
        # Without its manifest it does not count, whatever else is still there.
        self._place.child(name).delete_file(MANIFEST)
        self._place.child(name).delete()
        self._sent.discard(name)


def open_checkpoint_store(directory: str) -> CheckpointStore:
    """The store of a trial whose checkpoints belong to ``directory``, a folder or a URI."""
    return ObjectCheckpointStore(Place(directory)) if is_remote(directory) else CheckpointStore(Path(directory))


class LocalCopy:
    """Of a checkpoint in an object store a copy, which goes when nobody holds this any more; of a folder, itself.

    Raises:
        StorageError: the store refuses or does not answer.
    """

    def __init__(self, address: str | Path) -> None:
        self._address = str(address)
        if not is_remote(address):
            self.folder = Path(address)
            return
        place, scratch = Place(self._address), ScratchDir()
        weakref.finalize(self, scratch.close)
        self.folder = scratch.folder(place.name)
        place.download(self.folder)

    @contextmanager
    def errors_naming_address(self) -> Iterator[Path]:
        """The folder; errors within name the address in its place."""
        try:
            yield self.folder
        except FinesearchError as error:
            if is_remote(self._address) and str(self.folder) in error.message:
                shown = Place(self._address).shown
                raise type(error)(error.message.replace(str(self.folder), shown)) from error
            raise
