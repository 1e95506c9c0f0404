"""From a record to the four files of a report."""

from pathlib import Path

from finesearch.report.files import write_atomically
from finesearch.report.markdown import markdown
from finesearch.report.page import html_page
from finesearch.report.record import RunRecord
from finesearch.report.summary import summary_json
from finesearch.report.trials import trials_parquet


def write_report(record: RunRecord, folder: Path) -> Path:
    """Write report.json, report.md, trials.parquet and report.html into ``folder``; returns the path of the page.

    Each file is replaced as a whole, so that a reader never sees half of one. The page comes last: who sees it finds
    the other three as new.

    Raises:
        DiskFullError: no space is left; the files that were not reached are as they were.
        StorageError: the folder cannot be made or written.
    """
    page = folder / "report.html"
    write_atomically(folder / "report.json", summary_json(record).encode())
    write_atomically(folder / "report.md", markdown(record).encode())
    write_atomically(folder / "trials.parquet", trials_parquet(record))
    write_atomically(page, html_page(record).encode())
    return page
