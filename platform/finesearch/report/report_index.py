"""index.html of a folder of reports: all its runs with their best scores, what they cost, and links."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

from finesearch.report.html import Html, concat_html, tag
from finesearch.report.number_format import format_duration, format_utc, score, scored
from finesearch.report.page import page_head
from finesearch.report.report_files import write_atomically

INDEX = "index.html"
COLUMNS = (
    "run",
    "metric",
    "best on test, 95 % interval",
    "best baseline on test",
    "trials",
    "wall clock",
    "cost",
    "updated",
)


def write_index(reports: Path) -> Path:
    """Write index.html into a folder whose folders are reports; returns its path. The newest run is first.

    Raises:
        DiskFullError, StorageError: see ``write_report``.
    """
    found = {folder.name: report for folder in sorted(reports.iterdir()) if (report := _read(folder)) is not None}
    newest_first = sorted(found, key=lambda name: -(found[name].get("updated") or 0.0))
    rows = [_row(name, found[name]) for name in newest_first]
    table = tag(
        "table",
        tag("thead", tag("tr", *(tag("th", name, scope="col") for name in COLUMNS))),
        tag("tbody", *rows),
        class_="runs",
    )
    main = tag(
        "main",
        tag("header", tag("h1", "Searches")),
        tag("section", tag("div", table, class_="scroll"), class_="long"),
        tag("footer", "Written by finesearch whenever a report here is written."),
    )
    page = tag("html", page_head("Searches · finesearch"), tag("body", main), lang="en")
    write_atomically(reports / INDEX, f"<!doctype html>\n{page}\n".encode())
    return reports / INDEX


def _read(folder: Path) -> Mapping[str, Any] | None:
    """Content of a folder's report.json; None where it holds none of ours."""
    try:
        content = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) and "schema_version" in content else None


def _row(name: str, report: Mapping[str, Any]) -> Html:
    sign = 1 if report["goal"] == "max" else -1
    best = next(iter(report["ranked"]), None)
    compared = [row for row in report["baselines"] if row["error"] is None and row["test"] is not None]
    baseline = max(compared, key=lambda row: sign * row["test"], default=None)
    cost, state = report["cost"], [tag("small", "not ended")] if report["partial"] else []
    link = tag("a", name, href=f"{quote(name)}/report.html")
    money = cost.get("money")
    cells = (
        report["metric"],
        ""
        if best is None
        else concat_html(tag("b", scored(best["test"], best["test_interval"])), tag("small", best["name"])),
        "" if baseline is None else concat_html(score(baseline["test"]), tag("small", baseline["name"])),
        ", ".join(f"{number:,} {word}" for word, number in cost.get("trials", {}).items() if number),
        format_duration(cost.get("seconds")),
        "" if money is None else f"{money:,.2f}",
        format_utc(report["updated"]),
    )
    return tag("tr", tag("th", concat_html(link, *state), scope="row"), *(tag("td", cell) for cell in cells))
