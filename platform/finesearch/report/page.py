"""report.html: one self-contained file that works without a network.

The content security policy in its head forbids every connection and every script but the two written here, named by
their SHA-256; so text from a trial could not run or fetch anything even if escaping it failed.
"""

import base64
import hashlib
import json
from collections.abc import Sequence
from functools import cache
from importlib import resources

from finesearch.report.figures import Figure, all_figures
from finesearch.report.figures.plotly_spec import trial_labels
from finesearch.report.html import Html, tag
from finesearch.report.page_sections import notes_and_warnings, page_opening, reproduction_section, unranked_section
from finesearch.report.run_record import RunRecord
from finesearch.report.tables.breakdown_tables import breakdown_sections
from finesearch.report.tables.ranking_table import ranking

REFRESH_S = 30
WIDE_FIGURES = frozenset({"parallel", "timeline"})


def html_page(record: RunRecord) -> str:
    """The whole page; it reloads every ``REFRESH_S`` seconds while the record is partial."""
    figures = all_figures(record)
    narrow = [figure.key for figure in figures if figure.key not in WIDE_FIGURES]
    # With an odd number, the last one takes the whole width, so that no gap is left beside it.
    wide = WIDE_FIGURES | set(narrow[-1:] if len(narrow) % 2 else [])
    scripts = [_plotly(), _asset("page.js")]
    head = page_head(f"{'Partial: ' if record.partial else ''}{record.name} · finesearch", scripts, record.partial)
    main = tag(
        "main",
        page_opening(record),
        ranking(record),
        breakdown_sections(record),
        tag("div", *(_place(figure, figure.key in wide) for figure in figures), class_="figures"),
        notes_and_warnings(record),
        unranked_section(record),
        reproduction_section(record),
        tag("footer", "Written by finesearch. The same in machine-readable form: report.json, trials.parquet."),
    )
    data = tag("script", Html(_embedded(record, figures)), type="application/json", id="figures")
    body = tag("body", main, data, *(tag("script", Html(script)) for script in scripts))
    return f"<!doctype html>\n{tag('html', head, body, lang='en')}\n"


def page_head(title: str, scripts: Sequence[str] = (), refreshes: bool = False) -> Html:
    """The head of a page that runs the given scripts and no others, and loads nothing."""
    allowed = " ".join(_hash(script) for script in scripts) or "'none'"
    policy = (
        f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; img-src data: blob:; "
        "form-action 'none'; base-uri 'none'"
    )
    refresh = [tag("meta", http_equiv="refresh", content=str(REFRESH_S))] if refreshes else []
    return tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=policy),
        tag("meta", name_="viewport", content="width=device-width, initial-scale=1"),
        *refresh,
        tag("title", title),
        tag("style", Html(_asset("page.css"))),
    )


def _place(figure: Figure, is_wide: bool) -> Html:
    wide = "wide" if is_wide else None
    if not figure.traces:
        return tag("section", tag("h2", figure.title), tag("p", figure.caption, class_="empty"), class_=wide)
    # The height is reserved before anything is drawn, so that the page does not jump.
    drawing = tag("div", id=f"figure-{figure.key}", style=f"min-height:{figure.height}px")
    caption = tag("p", figure.caption, class_="caption")
    return tag("section", tag("h2", figure.title), caption, tag("div", drawing, class_="scroll"), class_=wide)


def _embedded(record: RunRecord, figures: list[Figure]) -> str:
    """Figures as JSON that cannot close its script element."""
    content = {
        "labels": trial_labels(record),
        "figures": [
            {"key": figure.key, "traces": list(figure.traces), "layout": figure.layout, "height": figure.height}
            for figure in figures
            if figure.traces
        ],
    }
    written = json.dumps(content, allow_nan=False, separators=(",", ":"))
    return written.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _hash(script: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"


@cache
def _plotly() -> str:
    """Plotly's script from its Python package, without importing the rest of it."""
    script = resources.files("plotly").joinpath("package_data", "plotly.min.js").read_text(encoding="utf-8")
    assert "</script" not in script.lower()
    assert "<!--" not in script
    return script


@cache
def _asset(name: str) -> str:
    return resources.files("finesearch.report").joinpath("assets", name).read_text(encoding="utf-8")
