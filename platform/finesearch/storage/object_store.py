"""Object stores (``s3://``, ``gs://``) as places to keep a run in; plain folders are ``pathlib`` paths and not in here.

An object store has no rename and no folders: an object is there whole or not at all, and a set of objects counts once
the one that is written last (its manifest) is there. Keys are taken from where the store's own tools find them
(environment, profile, role of the machine), never from the URI, and no message shows more of a URI than its path.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from finesearch.errors import PlanError, StorageError
from finesearch.redaction import is_secret_in_query
from finesearch.storage.object_store_errors import is_final, store_error

if TYPE_CHECKING:
    from pyarrow.fs import FileSystem

T = TypeVar("T")

SCHEMES = ("s3", "gs", "gcs")
TRIES, FIRST_PAUSE_S = 3, 1.0
RETRY_LIMIT_S = 15
ENDPOINTS = ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3")
AT_ONCE = 8  # files that are copied at the same time


def is_remote(storage: str | Path) -> bool:
    """Whether ``storage`` names an object store and not a folder.

    >>> is_remote("s3://bucket/runs"), is_remote("runs"), is_remote("file:///mnt/shared/runs")
    (True, False, False)
    """
    return "://" in str(storage) and not str(storage).startswith("file://")


def shown(uri: str) -> str:
    """A URI as messages show it: without what could be a secret.

    >>> shown("s3://AKIA:secret@bucket/runs?region=eu-central-1&token=x")
    's3://bucket/runs'
    """
    parts = urlsplit(uri)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


@dataclass(frozen=True)
class Place:
    """A "folder" of an object store; it pickles, and opens its connection where it is used.

    Raises:
        PlanError: the URI is of another kind, names no bucket, or holds a key.
    """

    uri: str

    def __post_init__(self) -> None:
        parts, options = urlsplit(self.uri), parse_qsl(urlsplit(self.uri).query)
        if parts.scheme not in SCHEMES:
            raise PlanError(
                f"storage: expected a folder, file://, s3:// or gs://, got {shown(self.uri)}. A folder that every "
                "node mounts does as well."
            )
        account, _, bucket = parts.netloc.rpartition("@")
        if not bucket:
            raise PlanError(
                f"storage: {shown(self.uri)} names no bucket. Expected {parts.scheme}://BUCKET/FOLDER, "
                f"such as {parts.scheme}://my-bucket/runs."
            )
        secret = [name for name, _ in options if is_secret_in_query(name)]
        if secret or (account and not (account == "anonymous" and parts.scheme != "s3")):
            where = f"in its query ({', '.join(secret)})" if secret else "before the bucket"
            raise PlanError(
                f"storage: {shown(self.uri)} holds a key {where}, which would stand in plan.yaml and in reports. Leave "
                "it out and give it by the environment (AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or "
                "GOOGLE_APPLICATION_CREDENTIALS), a profile, or the role of the machines."
            )

    @property
    def shown(self) -> str:
        return shown(self.uri)

    @property
    def name(self) -> str:
        return PurePosixPath(urlsplit(self.uri).path).name

    @property
    def bucket(self) -> str:
        return urlsplit(self.uri).netloc.rpartition("@")[2]

    @property
    def path(self) -> str:
        """Bucket and key, as pyarrow names them."""
        return f"{self.bucket}/{urlsplit(self.uri).path.strip('/')}".rstrip("/")

    @property
    def filesystem(self) -> FileSystem:
        parts = urlsplit(self.uri)
        return _open(urlunsplit(parts._replace(path="/")), shown(self.uri))

    def child(self, *names: str) -> Place:
        """A place below this one.

        >>> Place("s3://bucket/runs?region=us-east-1").child("sst2", "scores").uri
        's3://bucket/runs/sst2/scores?region=us-east-1'
        """
        parts = urlsplit(self.uri)
        return Place(urlunsplit(parts._replace(path="/".join([parts.path.rstrip("/"), *names]))))

    def beside(self, name: str) -> Place:
        """A place with the same parent."""
        parts = urlsplit(self.uri)
        return Place(urlunsplit(parts._replace(path=str(PurePosixPath(parts.path).with_name(name)))))

    # -- objects -----------------------------------------------------------------------------------------------------

    def read(self, name: str) -> bytes | None:
        """Content of the object ``name`` below this place; None where there is none."""

        def read() -> bytes | None:
            try:
                with self.filesystem.open_input_stream(f"{self.path}/{name}") as stream:
                    return bytes(stream.read())
            except FileNotFoundError:
                return None

        return self._try("read", read)

    def write(self, name: str, content: bytes) -> None:
        """Write the object ``name`` below this place, whole or not at all."""

        def write() -> None:
            with self.filesystem.open_output_stream(f"{self.path}/{name}") as stream:
                stream.write(content)

        self._try("written", write)

    def files(self) -> dict[str, float]:
        """Every object below this place, by its name from here, with the store's time of its last writing in Unix
        seconds."""
        from pyarrow.fs import FileSelector, FileType

        selector = FileSelector(self.path, recursive=True, allow_not_found=True)
        found = self._try("listed", lambda: self.filesystem.get_file_info(selector))
        start = len(self.path) + 1
        # A name that ends in a slash stands for a folder.
        return {
            each.path[start:]: each.mtime.timestamp()
            for each in found
            if each.type is FileType.File and not each.path.endswith("/")
        }

    def folders(self) -> set[str]:
        """First parts of the names of what lies below."""
        return {name.partition("/")[0] for name in self.files() if "/" in name}

    def delete_file(self, name: str) -> None:
        """Delete one object; it need not be there."""

        def delete() -> None:
            with suppress(FileNotFoundError):
                self.filesystem.delete_file(f"{self.path}/{name}")

        self._try("deleted", delete)

    def delete(self, last: str = "") -> None:
        """Delete everything below this place; the object ``last`` last."""
        names = sorted(self.files(), key=lambda name: name == last)
        first = names[:-1] if last and last in names else names
        _each(self.delete_file, first)
        _each(self.delete_file, names[len(first) :])

    # -- folders in and out ------------------------------------------------------------------------------------------

    def upload(self, folder: Path, last: Iterable[str] = ()) -> None:
        """Copy every file of a folder to here; those named ``last`` come after all others, in that order."""
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
        """Copy what lies below this place into a folder, or those objects of it that are named."""
        wanted = list(self.files() if names is None else names)

        def download(name: str) -> None:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            with (
                self.filesystem.open_input_stream(f"{self.path}/{name}") as stream,
                (folder / name).open("wb") as target,
            ):
                shutil.copyfileobj(stream, target, 1 << 22)

        _each(lambda name: self._try("read", lambda: download(name)), wanted)

    def move(self, target: Place, last: str = "") -> None:
        """Move all objects below this place to below ``target``, by copying inside the store; ``last`` goes last, so
        that what was interrupted can be begun again."""
        names = list(self.files())
        copy = self.filesystem.copy_file
        _each(
            lambda name: self._try("moved", lambda: copy(f"{self.path}/{name}", f"{target.path}/{name}")),
            names,
        )
        self.delete(last)

    # -- trouble -----------------------------------------------------------------------------------------------------

    def check(self) -> None:
        """See that the bucket is there and that this machine may write, read and delete below this place.

        Raises:
            StorageError: where not; the message says what to do.
        """
        probe, content = f".probe-{os.getpid()}-{time.time_ns()}", b"finesearch"
        self.write(probe, content)
        if self.read(probe) != content:
            raise StorageError(
                f"storage {self.shown}: what was written there could not be read back. finesearch needs a store "
                "that shows an object as soon as it is written; choose another with --storage."
            )
        self.delete_file(probe)

    def _try(self, what: str, work: Callable[[], T]) -> T:
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


def _each(work: Callable[[str], None], names: list[str]) -> None:
    if len(names) < 2:
        for name in names:
            work(name)
        return
    with ThreadPoolExecutor(min(AT_ONCE, len(names))) as pool:
        list(pool.map(work, names))


@cache
def _open(uri: str, shown_uri: str) -> FileSystem:
    import pyarrow as pa
    from pyarrow.fs import FileSystem

    try:
        return FileSystem.from_uri(_with_defaults(uri))[0]
    except (OSError, pa.ArrowInvalid, ValueError) as error:
        text = str(error).replace(uri, shown_uri).splitlines()[0]
        if isinstance(error, OSError):
            raise store_error(shown_uri, "opened", error) from None
        raise PlanError(
            f"storage: {shown_uri} cannot be used: {text}. Behind `?` may stand region, scheme and "
            "endpoint_override, as in s3://bucket/runs?endpoint_override=HOST:PORT&scheme=http&region=us-east-1."
        ) from None


def _with_defaults(uri: str) -> str:
    """The URI with what pyarrow would else look for at length: it asks Amazon for the region of a bucket wherever the
    bucket is, and tries for a quarter of an hour to reach a Google that does not answer."""
    parts = urlsplit(uri)
    options = dict(parse_qsl(parts.query))
    if parts.scheme != "s3":
        options.setdefault("retry_limit_seconds", str(RETRY_LIMIT_S))
    elif "region" not in options:
        region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
        elsewhere = "endpoint_override" in options or any(map(os.environ.get, ENDPOINTS))
        if region is not None or elsewhere:
            options["region"] = region or "us-east-1"
    return urlunsplit(parts._replace(query=urlencode(options)))
