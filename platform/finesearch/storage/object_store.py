"""Object stores (``s3://``, ``gs://``): read, write, copy folders; failed operations are retried with growing pauses.

An object store has no rename and no folders: an object is there whole or not at all, and a set of objects counts once
the object that is written last (its manifest) is there.
"""

from __future__ import annotations

import os
import random
import shutil
import time
import uuid
import weakref
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import urlsplit, urlunsplit

from finesearch.errors import StorageError
from finesearch.storage.object_store_errors import is_final, store_error
from finesearch.storage.object_uri import bucket_and_key, check_uri, open_filesystem, shown_uri
from finesearch.storage.scratch_dir import ScratchDir
from finesearch.storage.store import LocalCopy, Store

if TYPE_CHECKING:
    from pyarrow.fs import FileSystem

T = TypeVar("T")

TRIES, FIRST_PAUSE_S = 3, 1.0
AT_ONCE = 8  # files that are copied concurrently


@dataclass(frozen=True)
class ObjectStore(Store):
    """A "folder" of an object store; it pickles, and opens its connection where it is used.

    Raises:
        PlanError: the URI is of another kind, names no bucket, or holds a key.
    """

    uri: str

    def __post_init__(self) -> None:
        check_uri(self.uri)

    @property
    def folder(self) -> None:
        return None

    @property
    def address(self) -> str:
        return self.uri

    @property
    def shown(self) -> str:
        return shown_uri(self.uri)

    @property
    def name(self) -> str:
        return PurePosixPath(urlsplit(self.uri).path).name

    @property
    def path(self) -> str:
        """Bucket and key, as pyarrow names them."""
        return bucket_and_key(self.uri)

    @property
    def filesystem(self) -> FileSystem:
        parts = urlsplit(self.uri)
        return open_filesystem(urlunsplit(parts._replace(path="/")), shown_uri(self.uri))

    def child(self, *names: str) -> ObjectStore:
        """A "folder" below this one.

        >>> ObjectStore("s3://bucket/runs?region=us-east-1").child("sst2", "scores").uri
        's3://bucket/runs/sst2/scores?region=us-east-1'
        """
        parts = urlsplit(self.uri)
        return ObjectStore(urlunsplit(parts._replace(path="/".join([parts.path.rstrip("/"), *names]))))

    def beside(self, name: str) -> ObjectStore:
        """A "folder" with the same parent."""
        parts = urlsplit(self.uri)
        return ObjectStore(urlunsplit(parts._replace(path=str(PurePosixPath(parts.path).with_name(name)))))

    def relative(self, address: str) -> str:
        path = bucket_and_key(address)
        return path.removeprefix(f"{self.path}/") if path.startswith(f"{self.path}/") else address

    def resolve(self, name: str) -> str:
        return name if urlsplit(name).scheme else self.child(name).uri

    # -- objects -----------------------------------------------------------------------------------------------------

    def read(self, name: str) -> bytes | None:
        def read() -> bytes | None:
            try:
                with self.filesystem.open_input_stream(f"{self.path}/{name}") as stream:
                    return bytes(stream.read())
            except FileNotFoundError:
                return None

        return self._try("read", read)

    def write(self, name: str, content: bytes) -> None:
        def write() -> None:
            with self.filesystem.open_output_stream(f"{self.path}/{name}") as stream:
                stream.write(content)

        self._try("written", write)

    def files(self) -> dict[str, float]:
        """Every object here, by relative name, with the store's time of its last write in Unix seconds."""
        from pyarrow.fs import FileSelector, FileType

        selector = FileSelector(self.path, recursive=True, allow_not_found=True)
        found = self._try("listed", lambda: self.filesystem.get_file_info(selector))
        start = len(self.path) + 1
        # A name that ends with a slash marks a folder.
        return {
            each.path[start:]: each.mtime.timestamp()
            for each in found
            if each.type is FileType.File and not each.path.endswith("/")
        }

    def folders(self) -> set[str]:
        return {name.partition("/")[0] for name in self.files() if "/" in name}

    def delete_file(self, name: str) -> None:
        def delete() -> None:
            with suppress(FileNotFoundError):
                self.filesystem.delete_file(f"{self.path}/{name}")

        self._try("deleted", delete)

    def delete(self, last: str = "") -> None:
        """Delete everything; the object ``last`` last."""
        names = sorted(self.files(), key=lambda name: name == last)
        first = names[:-1] if last and last in names else names
        _each(self.delete_file, first)
        _each(self.delete_file, names[len(first) :])

    # -- folders in and out ------------------------------------------------------------------------------------------

    def upload(self, folder: Path, last: Iterable[str] = ()) -> None:
        """Copy every file of a folder to here; those in ``last`` come after all others, in that order."""
        names = [str(path.relative_to(folder).as_posix()) for path in sorted(folder.rglob("*")) if path.is_file()]
        finally_ = [name for name in last if name in names]
        _each(lambda name: self.upload_file(folder / name, name), [name for name in names if name not in finally_])
        for name in finally_:
            self.upload_file(folder / name, name)

    def upload_file(self, path: Path, name: str) -> None:
        """Copy one file to the object ``name``."""

        def upload() -> None:
            with path.open("rb") as source, self.filesystem.open_output_stream(f"{self.path}/{name}") as stream:
                shutil.copyfileobj(source, stream, 1 << 22)

        self._try("written", upload)

    def download(self, folder: Path, names: Iterable[str] | None = None) -> None:
        """Copy everything, or the objects ``names``, into a folder."""
        selected = list(self.files() if names is None else names)
        if outside := [name for name in selected if ".." in name.split("/") or name.startswith("/")]:
            raise StorageError(
                f"storage {self.shown}: the name {outside[0]!r} leads out of the folder. Delete the object."
            )

        def download(name: str) -> None:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            with (
                self.filesystem.open_input_stream(f"{self.path}/{name}") as stream,
                (folder / name).open("wb") as target,
            ):
                shutil.copyfileobj(stream, target, 1 << 22)

        _each(lambda name: self._try("read", lambda: download(name)), selected)

    def move(self, target: ObjectStore, last: str = "") -> None:
        """Move everything to ``target`` by copying inside the store; ``last`` goes last, so that an interrupted move
        can be repeated."""
        names = list(self.files())
        copy = self.filesystem.copy_file
        _each(
            lambda name: self._try("moved", lambda: copy(f"{self.path}/{name}", f"{target.path}/{name}")),
            names,
        )
        self.delete(last)

    def set_aside(self, last: str) -> None:
        number = 1
        while (old := self.beside(f"{self.name}.old-{number}")).read(last) is not None:
            number += 1
        self.move(old, last)

    def local_copy(self) -> LocalCopy:
        scratch = ScratchDir()
        copy = LocalCopy(scratch.folder(self.name), self.shown)
        weakref.finalize(copy, scratch.close)
        self.download(copy.folder)
        return copy

    def claim_number(self) -> int:
        """An object store shows writes at once: a number that two processes claimed belongs to the one that saw no
        other claim to it, and to neither where each saw the other's."""
        mine = uuid.uuid4().hex
        while True:
            number = max(map(_claimed, self.files()), default=0) + 1
            self.write(f"{number}-{mine}", b"")
            if [_claimed(name) for name in self.files()].count(number) == 1:
                return number
            time.sleep(random.random())

    # -- checks and retries ------------------------------------------------------------------------------------------

    def probe(self) -> None:
        """Check that the bucket exists and that this machine may write, read and delete here."""
        probe, content = f".probe-{os.getpid()}-{time.time_ns()}", b"finesearch"
        self.write(probe, content)
        if self.read(probe) != content:
            raise StorageError(
                f"storage {self.shown}: what was written there could not be read back. finesearch needs a store "
                "that shows an object as soon as it is written; choose another with --storage."
            )
        self.delete_file(probe)

    def _try(self, what: str, work: Callable[[], T]) -> T:
        """Run ``work``, retried up to ``TRIES`` times after errors that may pass.

        Raises:
            StorageError: an error that a retry cannot help, or the last one.
        """
        pause = FIRST_PAUSE_S
        for left in reversed(range(TRIES)):
            try:
                return work()
            except OSError as error:
                if not left or is_final(error):
                    raise store_error(self.shown, what, error) from None
            time.sleep(pause)
            pause *= 4
        raise AssertionError("the last try returns or raises")


def _claimed(name: str) -> int:
    number = name.partition("-")[0]
    return int(number) if number.isdigit() else 0


def _each(work: Callable[[str], None], names: list[str]) -> None:
    if len(names) < 2:
        for name in names:
            work(name)
        return
    with ThreadPoolExecutor(min(AT_ONCE, len(names))) as pool:
        list(pool.map(work, names))
