"""Prefix-cache entries on a node's disk: one folder per model, split and depth, shared by all runs on the machine.

    <cache home>/prefix/<key>-c4/  hidden.arrow  manifest.json  uses    the output of the fourth block, row by row
    <cache home>/prefix/<key>.lock                                      held by the process that computes
    <cache home>/prefix/.building-<key>-c4-<process>/  reserved         maximum size of the entry in bytes

``uses`` grows by a byte with each trial that reads the folder, is locked (shared) by every process that reads it, and
its modification time is the last use. When space is needed, the entry with the lowest value is evicted first: blocks
saved times uses per byte, halved with each day since the last use. Entries that a process reads are never deleted.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import time
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from finesearch.data.build_once import file_lock
from finesearch.storage.atomic_files import sync, write_synced
from finesearch.storage.checksummed_dirs import file_sha256
from finesearch.storage.local_dirs import cache_home

MANIFEST, HIDDEN, USES, RESERVED = "manifest.json", "hidden.arrow", "uses", "reserved"
BUILDING = ".building-"
SECONDS_A_DAY = 86_400
DEFAULT_DISK_FRACTION = 0.25
"""Share of the free disk space, where the plan gives no budget."""


@dataclass(frozen=True)
class Entry:
    """One complete folder. It contains ``rows`` of the split's ``total_rows``."""

    path: Path
    cut: int
    bytes: int
    rows: int
    total_rows: int

    @property
    def is_complete(self) -> bool:
        return self.rows == self.total_rows

    @property
    def value(self) -> float:
        """Value for eviction: blocks saved times uses per byte, halved with each day since the last use."""
        try:
            uses = (self.path / USES).stat()
        except OSError:
            return 0.0
        days = max(0.0, time.time() - uses.st_mtime) / SECONDS_A_DAY
        halved: float = 0.5**days
        return self.cut * uses.st_size / max(1, self.bytes) * halved


def home() -> Path:
    """Folder of the entries: on the node's own disk, below ``$XDG_CACHE_HOME`` or ``~/.cache``."""
    return cache_home() / "prefix"


def entry_path(key: str, cut: int) -> Path:
    return home() / f"{key}-c{cut}"


def lock_path(key: str) -> Path:
    return home() / f"{key}.lock"


def read_entry(path: Path) -> Entry | None:
    """The entry in a folder; None where there is none, or where it is damaged."""
    try:
        said = json.loads((path / MANIFEST).read_bytes())
        entry = Entry(path, int(said["cut"]), int(said["bytes"]), int(said["rows"]), int(said["total_rows"]))
        return entry if (path / HIDDEN).stat().st_size == entry.bytes else None
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        return None


def read_intact_entry(path: Path) -> Entry | None:
    """The entry in a folder; None where there is none, or where its file is not as it was written.

    A process reads a file whole for this once, before it maps it.
    """
    entry = read_entry(path)
    if entry is None:
        return None
    try:
        stat = (path / HIDDEN).stat()
        written = json.loads((path / MANIFEST).read_bytes()).get("sha256")
        state = (path, written, stat.st_ino, stat.st_mtime_ns)
        if state not in _INTACT:
            if file_sha256(path / HIDDEN) != written:
                return None
            _INTACT.add(state)
    except (OSError, ValueError):
        return None
    return entry


_INTACT: set[tuple[object, ...]] = set()


def list_entries() -> list[Entry]:
    """All entries on this machine, of all runs."""
    try:
        found = [read_entry(path) for path in home().iterdir() if (path / MANIFEST).is_file()]
    except OSError:
        return []
    return [entry for entry in found if entry is not None]


def lock_entry(path: Path) -> int | None:
    """Count one use of an entry and prevent its eviction until the returned descriptor is closed; None: it is gone."""
    try:
        descriptor = os.open(path / USES, os.O_RDWR | os.O_APPEND | os.O_CLOEXEC)
    except OSError:
        return None
    fcntl.flock(descriptor, fcntl.LOCK_SH)
    if not (path / MANIFEST).is_file():
        os.close(descriptor)
        return None
    os.write(descriptor, b".")
    return descriptor


def commit_entry(temporary: Path, final: Path, cut: int, rows: int, total_rows: int) -> None:
    """Make a folder with a complete ``hidden.arrow`` an entry: manifest, then rename."""
    size = (temporary / HIDDEN).stat().st_size
    sha256 = file_sha256(temporary / HIDDEN)
    said = {"cut": cut, "bytes": size, "rows": rows, "total_rows": total_rows, "sha256": sha256}
    sync(temporary / HIDDEN)
    (temporary / RESERVED).unlink(missing_ok=True)
    (temporary / USES).touch()
    write_synced(temporary / MANIFEST, json.dumps(said).encode())
    sync(temporary)
    shutil.rmtree(final, ignore_errors=True)
    temporary.rename(final)
    sync(final.parent)


def reserve(key: str, cut: int, size: int) -> Path:
    """A folder to build an entry of at most ``size`` bytes in; the caller holds the lock of ``key``."""
    path = home() / f"{BUILDING}{key}-c{cut}-{os.getpid()}"
    path.mkdir()
    (path / RESERVED).write_text(str(size))
    return path


def remove_stale_builds(key: str) -> None:
    """Delete unfinished builds of processes that died; the caller holds the lock of ``key``."""
    for left_over in home().glob(f"{BUILDING}{key}-c*"):
        shutil.rmtree(left_over, ignore_errors=True)


def reserved_bytes() -> int:
    """Bytes reserved by entries that are being built. Those of processes that died are deleted."""
    reserved = 0
    for path in home().glob(f"{BUILDING}*"):
        key = path.name.removeprefix(BUILDING).rpartition("-c")[0]
        with file_lock(lock_path(key), waits=False) as nobody_builds:
            if nobody_builds:
                shutil.rmtree(path, ignore_errors=True)
                continue
        try:
            reserved += int((path / RESERVED).read_text() or 0)
        except OSError:
            continue  # it has just been finished or started
    return reserved


def used_bytes() -> int:
    """Bytes of all entries, including those being built."""
    return sum(entry.bytes for entry in list_entries()) + reserved_bytes()


def evict_entries(needed: int, budget: int, kept: Collection[Path] = ()) -> int:
    """Delete the entries of lowest value until ``needed`` bytes fit into ``budget``; returns the bytes that fit.

    kept: folders that stay.
    """
    entries = sorted(list_entries(), key=lambda entry: entry.value)
    used = sum(entry.bytes for entry in entries) + reserved_bytes()
    for entry in entries:
        if used + needed <= budget:
            break
        if entry.path not in kept and _delete(entry.path):
            used -= entry.bytes
    return max(0, min(needed, budget - used))


def _delete(path: Path) -> bool:
    """Delete an entry unless a process reads it."""
    try:
        descriptor = os.open(path / USES, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        unlinked = path.with_name(f".gone-{path.name}-{os.getpid()}")
        path.rename(unlinked)
    except OSError:
        return False
    finally:
        os.close(descriptor)
    shutil.rmtree(unlinked, ignore_errors=True)
    return True


def disk_budget(gib: float | None) -> int:
    """Disk budget of all entries in bytes; by default a quarter of the space that is free or already used by them."""
    if gib is not None:
        return int(gib * (1 << 30))
    where = home()
    while not where.exists():
        where = where.parent
    held = sum(entry.bytes for entry in list_entries())
    return int(DEFAULT_DISK_FRACTION * (shutil.disk_usage(where).free + held))
