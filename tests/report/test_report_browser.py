"""The page in a real browser without a network: figures are drawn, nothing complains, hostile text does nothing."""

import re
import subprocess

import pytest
from report_browser import BROWSER
from report_records import search_record
from test_report_page import hostile_record

from finesearch.report import RunRecord, write_report

pytestmark = pytest.mark.browser

LIGHT_ACCENT, DARK_ACCENT = "rgb(47, 98, 217)", "rgb(123, 163, 255)"
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--no-first-run",
    "--host-resolver-rules=MAP * ~NOTFOUND",
    "--enable-logging=stderr",
    "--virtual-time-budget=10000",
]


def opened(page, profile, *flags):
    """The page's document after its scripts have run, and what it wrote to the console."""
    assert BROWSER, "FINESEARCH_REQUIRE_BROWSER=1 is set and no chromium is on the path: install one"
    command = [BROWSER, *FLAGS, f"--user-data-dir={profile}", *flags, "--dump-dom", page.as_uri()]
    result = subprocess.run(command, capture_output=True, text=True, timeout=120)
    return result.stdout, [line for line in result.stderr.splitlines() if "CONSOLE" in line]


def drawn(dom):
    """Keys of the figures in which Plotly has drawn at least one trace."""
    keys = []
    for part in re.split(r'(?=<div id="figure-)', dom)[1:]:
        if 'class="main-svg"' in part and re.search(
            r'class="(scatterlayer|barlayer) mlayer"[^>]*><g class="trace', part
        ):
            keys.append(re.match(r'<div id="figure-([\w-]+)"', part)[1])
    return keys


@pytest.mark.parametrize(("trials", "size"), [(24, "1280,900"), (24, "390,844"), (1000, "1280,900")])
def test_all_figures_are_drawn_and_the_console_is_silent(tmp_path, trials, size):
    page = write_report(search_record(trials=trials), tmp_path / "report")
    dom, console = opened(page, tmp_path / "profile", f"--window-size={size}")
    assert console == []
    assert LIGHT_ACCENT in dom
    assert 'data-figures-drawn="6"' in dom
    assert drawn(dom) == ["history", "curves", "importances", "cost", "parallel", "timeline"]


def test_a_dark_page_has_figures_in_dark_colours(tmp_path):
    page = write_report(search_record(), tmp_path / "report")
    dom, _ = opened(page, tmp_path / "profile", "--blink-settings=preferredColorScheme=0")
    assert LIGHT_ACCENT not in dom
    assert DARK_ACCENT in dom


def test_hostile_text_does_nothing(tmp_path):
    page = write_report(hostile_record(), tmp_path / "report")
    dom, console = opened(page, tmp_path / "profile")
    assert console == []
    assert "<title>owned" not in dom
    assert "<img" not in re.sub(r"<script.*?</script>", "", dom, flags=re.DOTALL)
    assert "history" in drawn(dom)


def test_a_page_with_nothing_to_draw_is_silent_too(tmp_path):
    page = write_report(RunRecord(name="a", metric="accuracy", goal="max", partial=True), tmp_path / "report")
    dom, console = opened(page, tmp_path / "profile")
    assert console == []
    assert 'data-figures-drawn="0"' in dom
    assert "No trial has reported a value." in dom


def test_printing_draws_for_paper(tmp_path):
    page = write_report(search_record(), tmp_path / "report")
    pdf = tmp_path / "report.pdf"
    _, console = opened(page, tmp_path / "profile", f"--print-to-pdf={pdf}")
    assert console == []
    assert pdf.read_bytes().startswith(b"%PDF")
