"""Figure: timeline of the worker groups and their trials."""

from dataclasses import dataclass

from finesearch.report.figures.plotly_spec import (
    STATE_COLOURS,
    TRIAL_HOVER,
    Figure,
    Trace,
    axis,
    round_significant,
    text,
)
from finesearch.report.number_format import pluralize
from finesearch.report.run_record import RunRecord

MAX_GROUPS = 40
UNITS = ((2 * 86400.0, 86400.0, "days"), (2 * 3600.0, 3600.0, "hours"), (120.0, 60.0, "minutes"), (0.0, 1.0, "seconds"))


@dataclass(frozen=True)
class Bar:
    """One trial on its group: Unix times in seconds."""

    trial: int
    state: str
    group: str
    start: float
    stop: float


def timeline(record: RunRecord) -> Figure:
    """A bar a trial on the row of its worker group; a gap is time in which the group did not train."""
    bars = _bars(record)
    title = "Timeline of worker groups"
    if not bars:
        return Figure("timeline", title, "No trial has a start time.")
    groups = list(dict.fromkeys(bar.group for bar in sorted(bars, key=lambda bar: bar.start)))
    shown = set(groups[:MAX_GROUPS])
    bars = [bar for bar in bars if bar.group in shown]
    origin = min(bar.start for bar in bars)
    span = max(bar.stop for bar in bars) - origin
    unit_s, unit = next((unit_s, unit) for least, unit_s, unit in UNITS if span >= least)
    traces = [
        _trace([bar for bar in bars if bar.state == state], state, origin, unit_s)
        for state in STATE_COLOURS
        if any(bar.state == state for bar in bars)
    ]
    caption = f"{pluralize(len(bars), 'trial')} on {pluralize(len(groups), 'group')}, from the first trial's start."
    if len(shown) < len(groups):
        caption += f" The first {len(shown)} groups are drawn."
    layout = {
        "barmode": "overlay",
        "bargap": 0.25,
        "xaxis": axis(unit, rangemode="tozero"),
        "yaxis": {
            "type": "category",
            "automargin": True,
            "categoryorder": "array",
            "categoryarray": [text(group, 28) for group in reversed(groups[:MAX_GROUPS])],
        },
    }
    return Figure("timeline", title, caption, traces, layout, height=150 + 30 * min(len(shown), 20))


def _bars(record: RunRecord) -> list[Bar]:
    bars = []
    for row in record.trials:
        stop = row.finished if row.finished is not None else record.updated
        if row.started is not None and stop is not None:
            bars.append(Bar(row.trial, row.state, row.group or "group unknown", row.started, max(stop, row.started)))
    return bars


def _trace(bars: list[Bar], state: str, origin: float, unit_s: float) -> Trace:
    return {
        "type": "bar",
        "orientation": "h",
        "name": state,
        "base": [round_significant((bar.start - origin) / unit_s) for bar in bars],
        "x": [round_significant((bar.stop - bar.start) / unit_s) for bar in bars],
        "y": [text(bar.group, 28) for bar in bars],
        "customdata": [bar.trial for bar in bars],
        "hovertemplate": TRIAL_HOVER,
        "marker": {"color": STATE_COLOURS[state], "line": {"color": "var:panel", "width": 0.5}},
    }
