"""Folders with a manifest of SHA-256 checksums, written whole or not at all: temporary name, fsync, manifest, rename.

manifest.json   {"files": {"model.safetensors": {"bytes": 90868376, "sha256": "..."}, ...}}
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

from finesearch.errors import DiskFullError
from finesearch.storage.atomic_files import FULL, sync, write_synced

MANIFEST = "manifest.json"


@dataclass(frozen=True)
class ListedFile:
    """What a manifest says of a file: its size and its checksum."""

    bytes: int
    sha256: str


def _listed_files(said: object) -> dict[str, ListedFile]:
    """Raises:
    ValueError: it is no list of files as ``write_manifest`` writes it.
    """
    if not isinstance(said, dict):
        raise ValueError("no mapping of files")
    listed = {}
    for name, file in said.items():
        is_whole = isinstance(file, dict) and isinstance(file.get("bytes"), int) and isinstance(file.get("sha256"), str)
        if not is_whole or Path(name).name != name:
            raise ValueError(f"{name!r} is no file with its size and checksum")
        listed[name] = ListedFile(file["bytes"], file["sha256"])
    return listed


@contextmanager
def disk_full_as_error(folder: Path) -> Iterator[None]:
    """Turn "no space left" from Python or from safetensors into an error that names the folder.

    Raises:
        DiskFullError
    """
    try:
        yield
    except Exception as error:
        number = error.errno if isinstance(error, OSError) else None
        # safetensors reports the system's error as text: "... (os error 28)".
        in_words = any(f"os error {code})" in str(error) for code in FULL)
        if number not in FULL and not in_words:
            raise
        raise DiskFullError(
            f"{folder}: the checkpoint could not be written, no space is left there ({error}). The last complete "
            f"checkpoint is untouched. Free some space, or give budget.disk_gib, and start the same command again."
        ) from error


def write_manifest(folder: Path, elsewhere: Mapping[str, Mapping[str, int | str]] | None = None) -> None:
    """Flush every file of ``folder`` (without subfolders) to the disk and write the manifest of sizes and checksums.

    elsewhere: sizes and checksums of files that belong to the folder and that other machines have written.
    """
    files = {path.name: flushed(path) for path in sorted(folder.iterdir()) if path.is_file() and path.name != MANIFEST}
    files |= {name: dict(said) for name, said in (elsewhere or {}).items()}
    write_synced(folder / MANIFEST, json.dumps({"files": files}, indent=1).encode())
    sync(folder)


def damage(folder: Path, required: Iterable[str] = (), beside: str = "") -> str | None:
    """Verify the files of ``folder`` (without subfolders) against its manifest: what is wrong, or None.

    Links are never followed. A file that the manifest does not list is wrong too, unless its name begins with a dot:
    libraries would load it with the others, such as a chat template.

    required: names that the manifest must list. beside: pattern of names that it need not list.
    """
    if folder.is_symlink() or (folder / MANIFEST).is_symlink():
        return f"{MANIFEST if folder.is_dir() and not folder.is_symlink() else folder.name} is a link"
    try:
        files = _listed_files(json.loads((folder / MANIFEST).read_bytes())["files"])
        found = {entry.name: entry for entry in os.scandir(folder) if not entry.name.startswith(".")}
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        return f"{MANIFEST} cannot be read ({type(error).__name__})"
    if missing := [name for name in required if name not in files]:
        return f"{MANIFEST} does not list {missing[0]}"
    for name, entry in found.items():
        if entry.is_symlink():
            return f"{name} is a link"
        if name not in files and name != MANIFEST and not entry.is_dir() and not fnmatch(name, beside):
            return f"{name} is not listed in {MANIFEST}"
    for name, expected in files.items():
        path = folder / name
        if name not in found or not path.is_file():
            return f"{name} is missing"
        size = path.stat().st_size
        if size != expected.bytes:
            return f"{name}: expected {expected.bytes} bytes, got {size}"
        got = file_sha256(path)
        if got != expected.sha256:
            return f"{name}: expected SHA-256 {expected.sha256[:12]}…, got {got[:12]}…"
    return None


def listed_bytes(folder: Path) -> int:
    """Size of all files that the manifest lists."""
    files = json.loads((folder / MANIFEST).read_bytes())["files"]
    return sum(file["bytes"] for file in files.values())


def rename_synced(source: Path, destination: Path) -> None:
    """Rename a folder and flush the rename."""
    source.rename(destination)
    sync(destination.parent)


def remove_folder(folder: Path) -> None:
    """Delete a folder, if it exists; rename it first, so that half of it is never taken for a whole one."""
    doomed = folder.with_name(f".gone-{folder.name}")
    try:
        folder.rename(doomed)
    except FileNotFoundError:
        return
    except OSError:
        doomed = folder
    shutil.rmtree(doomed, ignore_errors=True)


def file_sha256(path: Path) -> str:
    """SHA-256 checksum of a file, 64 hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def flushed(path: Path) -> dict[str, int | str]:
    """Flush a file to the disk; returns its manifest entry: size and checksum."""
    sync(path)
    return {"bytes": path.stat().st_size, "sha256": file_sha256(path)}
