"""File lock (``flock``): many processes need a folder, one builds it, and the others wait.

The kernel releases the lock when its process ends, so a killed builder blocks no other process: the next one finds no
finished folder and builds it. A folder is finished once it exists, since it is built under a temporary name, fsynced
and renamed.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from finesearch.storage.atomic_files import storage_errors, sync

POLL_S = 0.05


def build_once(folder: Path, build: Callable[[Path], None], is_complete: Callable[[Path], bool]) -> bool:
    """Make ``folder`` by ``build(temporary folder)`` unless it exists; True if this process built it.

    is_complete: whether an existing folder can be used; if not, it is removed and built again.

    Raises:
        DiskFullError, StorageError: the folder cannot be written.
    """
    if is_complete(folder):
        return False
    with storage_errors(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
    lock = folder.parent / f"{folder.name}.lock"
    with storage_errors(lock), file_lock(lock):
        if is_complete(folder):
            return False
        # Only the holder of the lock builds here, so any remaining temporary folder belongs to a builder that died.
        for left_over in folder.parent.glob(f"{folder.name}.building-*"):
            shutil.rmtree(left_over, ignore_errors=True)
        temporary = folder.parent / f"{folder.name}.building-{os.getpid()}"
        try:
            with storage_errors(folder):
                shutil.rmtree(folder, ignore_errors=True)
                temporary.mkdir()
                build(temporary)
                sync(temporary)
                os.rename(temporary, folder)
                sync(folder.parent)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    return True


@contextmanager
def file_lock(path: Path, waits: bool = True, beat: Callable[[], None] | None = None) -> Iterator[bool]:
    """Hold the lock ``path``, which the kernel releases with the process; yields whether this process has it.

    waits: False to continue at once if another process has it. beat: heartbeat, called repeatedly while waiting.

    Raises:
        OSError: the file cannot be made.
    """
    # The file is never removed: a process may be waiting on it.
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        if waits and beat is None:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield True
            return
        while not (has_it := _try_lock(descriptor)) and waits and beat is not None:
            beat()
            time.sleep(POLL_S)
        yield has_it
    finally:
        os.close(descriptor)


def _try_lock(descriptor: int) -> bool:
    """Take the lock if it is free."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
