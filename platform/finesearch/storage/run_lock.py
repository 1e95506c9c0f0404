"""Lock (flock): one driver a run; the kernel releases it when its holder dies, however it dies."""

from __future__ import annotations

import fcntl
import json
import os
import socket
import stat
import time
from pathlib import Path
from types import TracebackType
from typing import Any

from finesearch.errors import RunConflictError, StorageError

MOST_BYTES = 1000
"""Of what a driver writes about itself."""


class RunLock:
    """Held while a driver works on the run in ``folder``.

    Raises:
        StorageError: the lock is no file of its own.
        RunConflictError: another driver holds it; the message names host, process and start time.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / "driver.lock"
        try:
            # A link is not followed: what it points at would be emptied.
            handle = os.open(self._path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK, 0o600)
        except OSError as error:
            raise StorageError(
                f"{self._path}: expected the lock of a run, a file of its own; got "
                f"{'a link' if self._path.is_symlink() else error.strerror}. Nothing was changed. Remove it, unless "
                "another driver works on this run."
            ) from error
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            os.close(handle)
            raise StorageError(f"{self._path}: expected the lock of a run, got no regular file. Remove it.")
        self._file = os.fdopen(handle, "a+", encoding="utf-8")
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._file.seek(0)
            holder = self._file.read(MOST_BYTES)
            self._file.close()
            raise RunConflictError(
                f"{folder}: another driver is working on this run: {describe_driver(holder)}. Wait for it or end it "
                "first, or "
                "search under another name with --name."
            ) from None
        self._file.truncate(0)
        json.dump(identity(time.time()), self._file)
        self._file.flush()

    def release(self) -> None:
        """Release the lock."""
        self._file.close()

    def __enter__(self) -> RunLock:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


def identity(since: float) -> dict[str, Any]:
    """A driver's identity, as written into its lock or lease; ``since`` is Unix time."""
    return {"host": socket.gethostname(), "pid": os.getpid(), "since": since}


def describe_driver(holder: str | bytes) -> str:
    """A driver's identity in words."""
    try:
        known = json.loads(holder)
        since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(known["since"]))
        return f"process {known['pid']} on {known['host']}, since {since}"
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return "it left no name"
