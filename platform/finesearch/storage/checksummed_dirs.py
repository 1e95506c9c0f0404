"""A folder that is either there whole or not at all: temporary name, fsync, manifest, rename, fsync.

manifest.json   {"files": {"model.safetensors": {"bytes": 90868376, "sha256": "..."}, ...}}
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from finesearch.errors import DiskFullError
from finesearch.storage.atomic_files import FULL, sync, write_synced

MANIFEST = "manifest.json"


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
        # safetensors reports the system's error in words: "... (os error 28)".
        in_words = any(f"os error {code})" in str(error) for code in FULL)
        if number not in FULL and not in_words:
            raise
        raise DiskFullError(
            f"{folder}: the checkpoint could not be written, no space is left there ({error}). The last complete "
            f"checkpoint is untouched. Free some space, or give budget.disk_gib, and start the same command again."
        ) from error


def write_manifest(folder: Path, elsewhere: Mapping[str, Mapping[str, int | str]] | None = None) -> None:
    """Flush every file of ``folder`` (subfolders apart) to the disk and write down sizes and hashes.

    elsewhere: those of files that belong to it and that other machines have kept.
    """
    files = {path.name: flushed(path) for path in sorted(folder.iterdir()) if path.is_file() and path.name != MANIFEST}
    files |= {name: dict(said) for name, said in (elsewhere or {}).items()}
    write_synced(folder / MANIFEST, json.dumps({"files": files}, indent=1).encode())
    sync(folder)


def damage(folder: Path) -> str | None:
    """What is wrong with the files of ``folder`` (subfolders apart) by its manifest, or None when nothing is."""
    try:
        files = json.loads((folder / MANIFEST).read_bytes())["files"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        return f"{MANIFEST} cannot be read ({type(error).__name__})"
    for name, expected in files.items():
        path = folder / name
        if not path.is_file():
            return f"{name} is missing"
        size = path.stat().st_size
        if size != expected["bytes"]:
            return f"{name}: expected {expected['bytes']} bytes, got {size}"
        got = file_sha256(path)
        if got != expected["sha256"]:
            return f"{name}: expected SHA-256 {expected['sha256'][:12]}…, got {got[:12]}…"
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
    """Delete a folder, if it is there; under another name first, so that half of it is never taken for whole."""
    doomed = folder.with_name(f".gone-{folder.name}")
    try:
        folder.rename(doomed)
    except FileNotFoundError:
        return
    except OSError:
        doomed = folder
    shutil.rmtree(doomed, ignore_errors=True)


def file_sha256(path: Path) -> str:
    """Hash of a file's content, 64 hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def flushed(path: Path) -> dict[str, int | str]:
    """Size and hash of a file, once it is safely on the disk."""
    sync(path)
    return {"bytes": path.stat().st_size, "sha256": file_sha256(path)}
