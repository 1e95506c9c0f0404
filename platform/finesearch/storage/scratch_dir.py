"""Scratch folders of one process below the node's cache; other processes delete those of dead ones."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from types import TracebackType

from finesearch.storage.local_dirs import cache_home

HOME, LOCK = "scratch", ".lock"
YOUNG_S = 60.0  # a folder may exist before its lock


class ScratchDir:
    """An empty folder, held by a lock that the kernel releases when the process dies."""

    def __init__(self) -> None:
        home = cache_home() / HOME
        home.mkdir(parents=True, exist_ok=True)
        _clear_dead(home)
        self._home = Path(tempfile.mkdtemp(dir=home))
        self._lock = open(self._home / LOCK, "w")  # noqa: SIM115 - held until closed
        fcntl.flock(self._lock, fcntl.LOCK_EX)

    def folder(self, name: str) -> Path:
        """Create a folder of this name in it."""
        folder = self._home / name
        folder.mkdir()
        return folder

    def close(self) -> None:
        """Delete it with its content."""
        shutil.rmtree(self._home, ignore_errors=True)
        self._lock.close()

    def __enter__(self) -> ScratchDir:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _clear_dead(home: Path) -> None:
    for left in home.iterdir():
        with suppress(OSError):  # another process, or its owner, deletes it too
            if time.time() - left.stat().st_mtime < YOUNG_S:
                continue
            handle = os.open(left / LOCK, os.O_RDWR)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(left, ignore_errors=True)
            finally:
                os.close(handle)
