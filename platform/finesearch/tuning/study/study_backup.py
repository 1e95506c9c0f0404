"""Backs up the study's SQLite file to storage, from where any other machine can resume.

SQLite works neither in an object store nor on most network file systems: their locks and memory maps do not behave as
it needs, and a database that two nodes have open is soon corrupt. So the file is on the driver's own disk, and a whole
copy of it (SQLite's backup, consistent at any moment) is put into storage while the search runs.

Each copy has its own number (``user_version`` in its header), and this machine remembers those of its last two. A copy
in storage with one of them is as old as the file here, or older: the file here is used. A copy with another number was
made elsewhere: it is fetched, and the file here is set aside.
"""

from __future__ import annotations

import secrets
import sqlite3
import threading
import time
from contextlib import closing, suppress
from pathlib import Path

from finesearch.errors import StorageError
from finesearch.storage.atomic_files import storage_errors
from finesearch.storage.local_store import LocalStore
from finesearch.storage.private_dirs import make_run_folder
from finesearch.storage.store import Store

STUDY, LINEAGE = "study.db", "study.copies"
AT_LEAST_S, SHARE = 5.0, 0.05  # least interval of copies; their largest share of the time
HEADER, VERSION = 100, slice(60, 64)  # bytes; SQLite's file format


class StudyBackup:
    """Maintains the copy of ``folder/study.db`` in ``storage``, which other machines reach.

    Raises:
        StorageError: storage refuses or does not answer.
    """

    def __init__(self, folder: Path, storage: Store) -> None:
        self.path = folder / STUDY
        self._lineage = folder / LINEAGE
        self._here, self._storage = LocalStore(folder), storage
        self._kept: tuple[object, ...] | None = None
        self._pause_s = AT_LEAST_S
        self._stopped = threading.Event()
        self._keeping = threading.Lock()
        self._thread = threading.Thread(target=self._work, daemon=True, name="study backup")

    def fetch(self) -> None:
        """Bring the newest study to this machine: that of storage, unless the one here is newer."""
        with storage_errors(self.path.parent):
            make_run_folder(self.path.parent)
        if self._storage.folder is not None:
            _merge_wal(self._storage.folder / STUDY)
        copy = self._storage.read(STUDY)
        if copy is None:
            self._set_aside()  # another run of this name, which is gone from storage
        elif not self.path.exists() or _version(copy) not in self._numbers():
            self._set_aside()
            self._lineage.unlink(missing_ok=True)
            self._here.write(STUDY, copy)
            self._remember(_version(copy))

    def start(self) -> None:
        """Start a thread that makes copies, at most every ``AT_LEAST_S`` and for at most ``SHARE`` of the time."""
        self._thread.start()

    def stop(self) -> None:
        """Make a last copy and stop.

        Raises:
            StorageError: it could not be written; the study is on this machine.
        """
        self._stopped.set()
        if self._thread.is_alive():
            self._thread.join()
        self.persist()

    def persist(self) -> None:
        """Put a copy into storage, unless nothing was written since the last one."""
        with self._keeping:
            state = self._state()
            if state == self._kept or not self.path.exists():
                return
            began = time.monotonic()
            number = 1 + secrets.randbelow((1 << 31) - 1)
            content = _copy(self.path, number)
            self._remember(number)  # before writing: the copy may arrive although the write seems to fail
            self._storage.write(STUDY, content)
            self._kept = state
            self._pause_s = max(AT_LEAST_S, (time.monotonic() - began) / SHARE)

    def _work(self) -> None:
        while not self._stopped.wait(self._pause_s):
            with suppress(StorageError):  # retried; the last copy, at the end, raises
                self.persist()

    def _state(self) -> tuple[object, ...]:
        """Changes with every write: status of the file and of its write-ahead log."""
        files = (self.path, self.path.with_name(f"{STUDY}-wal"))
        return tuple((stat.st_mtime_ns, stat.st_size) for stat in (path.stat() for path in files if path.exists()))

    def _numbers(self) -> list[int]:
        with suppress(OSError, ValueError):
            return [int(word) for word in self._lineage.read_text(encoding="utf-8").split()]
        return []

    def _remember(self, number: int) -> None:
        self._here.write(LINEAGE, " ".join(map(str, [*self._numbers(), number][-2:])).encode())

    def _set_aside(self) -> None:
        """Rename the file here, so that nothing is lost; one old file is kept."""
        if self.path.exists():
            _merge_wal(self.path)
            self.path.replace(self.path.with_name(f"{STUDY}.aside"))
        self._lineage.unlink(missing_ok=True)


def _copy(path: Path, number: int) -> bytes:
    """A consistent copy of a database that is being written, numbered."""
    target = path.with_name(f"{path.name}.copy")
    target.unlink(missing_ok=True)
    try:
        with closing(sqlite3.connect(path, timeout=60)) as source, closing(sqlite3.connect(target)) as copy:
            source.backup(copy)
            # No write-ahead log: the file alone is the database.
            copy.execute("PRAGMA journal_mode=DELETE")
            copy.execute(f"PRAGMA user_version={number}")
            copy.commit()
        return target.read_bytes()
    except sqlite3.Error as error:
        raise StorageError(f"{path}: the study cannot be copied: {error}. Free space or mend the disk.") from error
    finally:
        target.unlink(missing_ok=True)


def _merge_wal(path: Path) -> None:
    """Merge the write-ahead log that an interrupted driver left into the database file.

    SQLite would otherwise apply the log to a copy that replaces the file.
    """
    logs = [path.with_name(f"{path.name}-{suffix}") for suffix in ("wal", "journal")]
    if not path.exists() or not any(log.exists() for log in logs):
        return
    try:
        with closing(sqlite3.connect(path, timeout=60)) as connection:
            connection.execute("SELECT count(*) FROM sqlite_master").fetchall()
            is_busy = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
    except sqlite3.Error as error:
        raise StorageError(f"{path}: the study cannot be opened: {error}.") from error
    if is_busy:
        raise StorageError(f"{path}: another program has the study open. Close it, then start the same command again.")


def _version(content: bytes) -> int:
    return int.from_bytes(content[:HEADER][VERSION], "big")
