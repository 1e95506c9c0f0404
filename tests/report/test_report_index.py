"""The index of a folder of reports: every run with a link that leads to its report, the newest first."""

import html
import re
from pathlib import Path
from urllib.parse import unquote

from report_records import search_record

from finesearch.report import write_index, write_report


def rows_of(page: Path) -> list[str]:
    body = page.read_text(encoding="utf-8").partition("<tbody>")[2].partition("</tbody>")[0]
    rows = [re.sub(r"<[^>]+>", " ", row) for row in body.split("</tr>") if row]
    return [" ".join(html.unescape(row).split()) for row in rows]


def test_every_run_is_listed_with_its_scores_and_cost(tmp_path: Path) -> None:
    old = search_record(name="old", updated=1_700_000_000.0)
    cost = {"seconds": 61.0, "trials": {"complete": 3, "failed": 0}, "money": 12.5, "per_device_hour": 2.5}
    new = search_record(name="new & <b>", updated=1_800_000_000.0, cost=cost)
    running = search_record(name="running", updated=1_750_000_000.0, ranked=(), partial=True)
    for record in (old, new, running):
        write_report(record, tmp_path / record.name)
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "report.json").write_text("[1]")
    (tmp_path / "torn").mkdir()
    (tmp_path / "torn" / "report.json").write_text("{")
    (tmp_path / "file.txt").write_text("not a run")
    first, second, third = rows_of(write_index(tmp_path))
    best = new.ranked[0]
    assert first.startswith(f"new & <b> accuracy {best.test:.3f} (")
    baseline = max(new.baselines, key=lambda row: row.test)
    assert f" {best.name} {baseline.test:.4f} ordinary 3 complete 1 min 01 s 12.50 2027-01-15 " in first
    assert second.startswith("running not ended accuracy")
    assert third.startswith("old accuracy")


def test_links_lead_to_the_reports(tmp_path: Path) -> None:
    write_report(search_record(name="a run"), tmp_path / "a run")
    page = write_index(tmp_path).read_text(encoding="utf-8")
    (link,) = re.findall(r'href="([^"]+)"', page)
    assert (tmp_path / unquote(link)).is_file()
    assert "script-src 'none'" in html.unescape(page)
    assert "<script" not in page
