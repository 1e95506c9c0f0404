"""Folders of one process below the node's cache: gone when it closes them, and cleared away by others when it died."""

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
YOUNG_S = 60.0  # a folder may be there before its lock


class ScratchDir:
    """An empty folder, held by a lock that the kernel gives back when the process dies."""

    def __init__(self) -> None:
        home = cache_home() / HOME
        home.mkdir(parents=True, exist_ok=True)
        _clear_dead(home)
        self._home = Path(tempfile.mkdtemp(dir=home))
        self._lock = open(self._home / LOCK, "w")  # noqa: SIM115 - held until closed
        fcntl.flock(self._lock, fcntl.LOCK_EX)

    def folder(self, name: str) -> Path:
        """A new folder of this name in it."""
        folder = self._home / name
        folder.mkdir()
        return folder

    def close(self) -> None:
        """Delete it, with all that is in it."""
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
        with suppress(OSError):  # another process clears as well, or its owner does
            if time.time() - left.stat().st_mtime < YOUNG_S:
                continue
            handle = os.open(left / LOCK, os.O_RDWR)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(left, ignore_errors=True)
            finally:
                os.close(handle)
