"""Files that are either the old one or the new one, never half of it."""

from pathlib import Path

from finesearch.durable import FULL, replace_synced
from finesearch.errors import DiskFullError, StorageError


def write_atomically(path: Path, content: bytes) -> None:
    """Write ``content`` under a temporary name beside ``path``, flush it to disk and rename it.

    Raises:
        DiskFullError: no space is left; what stood at ``path`` still stands there.
        StorageError: the folder cannot be made or written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_synced(path, content)
    except OSError as error:
        raise as_storage_error(path, error) from error


def as_storage_error(path: Path, error: OSError) -> StorageError:
    """The error of ours that says what an operating system's error means for a report."""
    if error.errno in FULL:
        return DiskFullError(
            f"{path}: expected room for the report, got '{error.strerror}'.\n"
            f"  Free some space or give another folder with --reports; the report that was there is unchanged."
        )
    return StorageError(
        f"{path}: expected a file that can be written, got '{error.strerror or error}'.\n"
        f"  Make {path.parent} a folder that you may write, or give another one with --reports."
    )
