"""The last words of a search that ends early: why, and where its report is."""

from __future__ import annotations

import io
from pathlib import Path
from types import SimpleNamespace

import pytest

from finesearch.run.open_search import SearchRequest, open_search_controller
from finesearch.run.partial_report import PartialReporter
from finesearch.run.progress import Progress
from finesearch.run.run_storage import RunStorage
from plans import empty_plan

# A report says of data and model what the plan's files say; there are none here.
NOTHING = SimpleNamespace(
    warnings=(), notes=(), splits=SimpleNamespace(fingerprints={}), model=SimpleNamespace(sha256="")
)


@pytest.mark.parametrize("can_be_written", [True, False])
def test_why_a_search_ends_is_said_also_when_its_report_cannot_be_written(tmp_path: Path, can_be_written: bool) -> None:
    plan, said = empty_plan(), io.StringIO()
    reports = tmp_path / "reports"
    if not can_be_written:
        reports.write_text("a file")
    reporter = PartialReporter(
        SearchRequest(plan, reports),
        open_search_controller(plan, tmp_path),
        NOTHING,  # type: ignore[arg-type]
    )
    reporter.close("Ray is gone", Progress(plan, said), RunStorage("empty", tmp_path))
    assert said.getvalue().startswith("\nempty: Ray is gone. ")
    saved = f"Everything finished is saved; a partial report is in {reporter.path}. The same command goes on."
    assert (saved in said.getvalue()) == can_be_written
    assert reporter.path.is_file() == can_be_written
    assert f"{reports / 'empty'}" in said.getvalue().split("gone. ")[1], "the place is named"
