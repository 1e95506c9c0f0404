"""Writes the files of a report, each atomically: a reader sees the old one or the new one."""

from pathlib import Path

from finesearch.errors import DiskFullError, StorageError
from finesearch.report.markdown import markdown
from finesearch.report.page import html_page
from finesearch.report.report_json import summary_json
from finesearch.report.run_record import RunRecord
from finesearch.report.trials_parquet import trials_parquet
from finesearch.storage.atomic_files import FULL, replace_synced


def write_atomically(path: Path, content: bytes) -> None:
    """Write ``content`` under a temporary name beside ``path``, flush it to disk and rename it.

    Raises:
        DiskFullError: no space is left; ``path`` is unchanged.
        StorageError: the folder cannot be created or written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_synced(path, content)
    except OSError as error:
        raise as_storage_error(path, error) from error


def as_storage_error(path: Path, error: OSError) -> StorageError:
    """The error in ``errors.py`` for an operating system's error while writing a report."""
    if error.errno in FULL:
        return DiskFullError(
            f"{path}: expected room for the report, got '{error.strerror}'.\n"
            f"  Free some space or give another folder with --reports; the report that was there is unchanged."
        )
    return StorageError(
        f"{path}: expected a file that can be written, got '{error.strerror or error}'.\n"
        f"  Make {path.parent} a folder that you may write, or give another one with --reports."
    )


def write_report(record: RunRecord, folder: Path) -> Path:
    """Write report.json, report.md, trials.parquet and report.html into ``folder``; returns the path of the page.

    Each file is replaced atomically. The page is last, so that the other three are at least as new.

    Raises:
        DiskFullError: no space is left; files that were not reached are unchanged.
        StorageError: the folder cannot be created or written.
    """
    page = folder / "report.html"
    write_atomically(folder / "report.json", summary_json(record).encode())
    write_atomically(folder / "report.md", markdown(record).encode())
    write_atomically(folder / "trials.parquet", trials_parquet(record))
    write_atomically(page, html_page(record).encode())
    return page
