"""Kept outputs on a node's disk: one folder for each model, split and cut, shared by all runs of the machine.

    <cache home>/prefix/<key>-c4/  hidden.arrow  manifest.json  uses    the output of the fourth block, row by row
    <cache home>/prefix/<key>.lock                                      who computes; others wait
    <cache home>/prefix/.building-<key>-c4-<process>/  reserved         the bytes that it will have at most

``uses`` grows by a byte with each trial that reads the folder, is locked (shared) by every process that reads it, and
its time is that of the last use. When room is needed, what saves least goes first: blocks saved times uses for each
byte, halved with each day since the last use. What somebody reads is never deleted.
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
from finesearch.storage.local_dirs import cache_home

MANIFEST, HIDDEN, USES, RESERVED = "manifest.json", "hidden.arrow", "uses", "reserved"
BUILDING = ".building-"
SECONDS_A_DAY = 86_400
DEFAULT_DISK_FRACTION = 0.25
"""Of the free disk, where the plan gives no budget."""


@dataclass(frozen=True)
class Entry:
    """One folder that is whole. ``rows`` of the split are in it, ``total_rows`` the split has."""

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
        """What keeping it is worth: blocks saved times uses for each byte, less with every day."""
        try:
            uses = (self.path / USES).stat()
        except OSError:
            return 0.0
        days = max(0.0, time.time() - uses.st_mtime) / SECONDS_A_DAY
        halved: float = 0.5**days
        return self.cut * uses.st_size / max(1, self.bytes) * halved


def home() -> Path:
    """Where kept outputs live: the node's own disk, below ``$XDG_CACHE_HOME`` or ``~/.cache``."""
    return cache_home() / "prefix"


def entry_path(key: str, cut: int) -> Path:
    return home() / f"{key}-c{cut}"


def lock_path(key: str) -> Path:
    return home() / f"{key}.lock"


def read_entry(path: Path) -> Entry | None:
    """The entry in a folder; None where there is none, or where it cannot be trusted."""
    try:
        said = json.loads((path / MANIFEST).read_bytes())
        entry = Entry(path, int(said["cut"]), int(said["bytes"]), int(said["rows"]), int(said["total_rows"]))
        return entry if (path / HIDDEN).stat().st_size == entry.bytes else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def list_entries() -> list[Entry]:
    """All entries of this machine, whoever made them."""
    try:
        found = [read_entry(path) for path in home().iterdir() if (path / MANIFEST).is_file()]
    except OSError:
        return []
    return [entry for entry in found if entry is not None]


def lock_entry(path: Path) -> int | None:
    """Count one use of an entry and keep it from being deleted until the descriptor is closed; None: it is gone."""
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
    """Make a folder whose ``hidden.arrow`` is written an entry; from the rename on it counts."""
    size = (temporary / HIDDEN).stat().st_size
    said = {"cut": cut, "bytes": size, "rows": rows, "total_rows": total_rows}
    sync(temporary / HIDDEN)
    (temporary / RESERVED).unlink(missing_ok=True)
    (temporary / USES).touch()
    write_synced(temporary / MANIFEST, json.dumps(said).encode())
    sync(temporary)
    shutil.rmtree(final, ignore_errors=True)
    temporary.rename(final)
    sync(final.parent)


def reserve(key: str, cut: int, size: int) -> Path:
    """A folder to build an entry in, of ``size`` bytes at most; for who holds the lock of ``key``."""
    path = home() / f"{BUILDING}{key}-c{cut}-{os.getpid()}"
    path.mkdir()
    (path / RESERVED).write_text(str(size))
    return path


def remove_stale_builds(key: str) -> None:
    """Delete what a process left that died while it built; for who holds the lock of ``key``."""
    for left_over in home().glob(f"{BUILDING}{key}-c*"):
        shutil.rmtree(left_over, ignore_errors=True)


def reserved_bytes() -> int:
    """What entries that are being built will take. Those of processes that died are deleted."""
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
            continue  # it was finished a moment ago, or begun
    return reserved


def used_bytes() -> int:
    """What all entries take, and those that are being built."""
    return sum(entry.bytes for entry in list_entries()) + reserved_bytes()


def evict_entries(needed: int, budget: int, kept: Collection[Path] = ()) -> int:
    """Delete the entries worth least until ``needed`` bytes fit into ``budget``; the bytes that do fit, if fewer.

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
    """Delete an entry unless somebody reads it."""
    try:
        descriptor = os.open(path / USES, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        doomed = path.with_name(f".gone-{path.name}-{os.getpid()}")
        path.rename(doomed)
    except OSError:
        return False
    finally:
        os.close(descriptor)
    shutil.rmtree(doomed, ignore_errors=True)
    return True


def disk_budget(gib: float | None) -> int:
    """Bytes that all entries together may take; by default a quarter of what is free or taken by them already."""
    if gib is not None:
        return int(gib * (1 << 30))
    where = home()
    while not where.exists():
        where = where.parent
    held = sum(entry.bytes for entry in list_entries())
    return int(DEFAULT_DISK_FRACTION * (shutil.disk_usage(where).free + held))
