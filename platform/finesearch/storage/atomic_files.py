"""Atomic, durable file writes: temporary name, fsync, rename; survives a power cut."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from finesearch.errors import DiskFullError, StorageError

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""Error numbers for "nothing more can be written": disk full, quota, largest file size of a process."""


def sync(path: Path) -> None:
    """Flush a file that other code has written, or a folder's entries.

    Without the latter, a power cut may undo a rename although the file's bytes are safe.
    """
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_synced(path: Path, content: bytes) -> None:
    """Write a file and flush it."""
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def replace_synced(path: Path, content: bytes) -> None:
    """Write a file under a temporary name beside ``path``, flush it, and rename it over ``path``.

    Raises:
        OSError: ``path`` is unchanged.
    """
    temporary = path.with_name(f".tmp-{path.name}-{os.getpid()}")
    try:
        write_synced(temporary, content)
        temporary.replace(path)
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
    sync(path.parent)


@contextmanager
def storage_errors(path: Path) -> Iterator[None]:
    """Turn the operating system's errors into those of ``errors.py``.

    Raises:
        DiskFullError: no space is left; StorageError: any other.
    """
    try:
        yield
    except OSError as error:
        if error.errno in FULL:
            raise DiskFullError(f"{path}: no space left on the disk.\n  Free some, or move `storage`.") from error
        raise StorageError(f"{path}: cannot be written ({error}).\n  Correct its rights, or move `storage`.") from error
