"""Figure: parallel coordinates of all hyperparameters of all trials.

Drawn as ordinary lines, not as Plotly's ``parcoords``, which needs WebGL and generated code (forbidden by the page's
content policy), does not print, and cannot show a parameter that a trial did not have.
"""

from collections.abc import Sequence
from typing import Any

from finesearch.report.figures.axis_scale import AxisScale, scale
from finesearch.report.figures.plotly_spec import TRIAL_HOVER, Figure, Trace, round_significant, spread, text
from finesearch.report.run_record import RunRecord, TrialRow

MAX_AXES = 10
MAX_LINES = 250
MISSING_HEIGHT = -0.16
MAX_TICK_CHARACTERS = 18
CHARACTER_PX = 6
# Share of trials, from the best: name, colour, opacity, width of the line.
QUANTILE_STYLES = (
    (0.1, "best tenth", "var:good", 0.95, 1.8),
    (0.25, "to a quarter", "var:accent", 0.7, 1.2),
    (0.5, "to a half", "var:accent", 0.35, 1.0),
    (1.0, "the rest", "var:muted", 0.5, 0.8),
)


def parallel_coordinates(record: RunRecord) -> Figure:
    """One line a trial across the hyperparameters that vary, ending at its value; coloured by quantile."""
    title = "Parallel coordinates"
    rows = [row for row in record.trials if row.state in ("complete", "pruned") and row.value is not None]
    rows.sort(key=lambda row: row.value or 0.0, reverse=record.goal == "max")
    names = _varied(record, rows)
    if not names:
        return Figure("parallel", title, "Fewer than two trials with different parameters have a value.")
    shown, finished = names[:MAX_AXES], len(rows)
    rows = [rows[place] for place in spread(finished, MAX_LINES)]
    scales = [scale([row.parameters[name] for row in rows if name in row.parameters]) for name in shown]
    scales.append(scale([row.value for row in rows]))
    traces: list[Trace] = []
    start = 0
    for share, label, colour, opacity, width in QUANTILE_STYLES:
        stop = max(start, round(share * len(rows))) if share > 0.1 else max(1, round(share * len(rows)))
        if stop > start:
            line = {"color": colour, "width": width}
            traces.append(_lines(rows[start:stop], shown, scales) | {"name": label, "opacity": opacity, "line": line})
        start = stop
    traces.reverse()
    caption = (
        f"One line a trial, from its hyperparameters to its validation {record.metric} on the right. "
        "A line runs below an axis where the trial has no such parameter. Press a name in the legend to hide its lines."
    )
    if len(rows) < finished:
        caption += f" {len(rows):,} of {finished:,} trials are drawn, spread evenly from best to worst."
    if len(shown) < len(names):
        caption += f" The {len(shown)} most important of {len(names)} parameters that vary."
    return Figure("parallel", title, caption, traces, _layout([*shown, record.metric], scales), height=400)


def _varied(record: RunRecord, rows: Sequence[TrialRow]) -> list[str]:
    """Parameters with several values or missing in some trials, most important first."""
    seen: dict[str, set[Any]] = {}
    for row in rows:
        for name, value in row.parameters.items():
            seen.setdefault(name, set()).add(value)
    always = {name for name in seen if all(name in row.parameters for row in rows)}
    varied = [name for name in seen if len(seen[name]) > 1 or name not in always]
    return sorted(varied, key=lambda name: -(record.importances.get(name) or 0.0))


def _lines(rows: Sequence[TrialRow], names: Sequence[str], scales: Sequence[AxisScale]) -> Trace:
    x: list[int | None] = []
    y: list[float | int | None] = []
    numbers: list[int | None] = []
    for row in rows:
        heights = [
            scales[i].place(row.parameters[name]) if name in row.parameters else MISSING_HEIGHT
            for i, name in enumerate(names)
        ]
        heights.append(scales[-1].place(row.value))
        x += [*range(len(heights)), None]
        y += [*(round_significant(round(height, 4)) for height in heights), None]
        numbers += [*([row.trial] * len(heights)), None]
    return {
        "type": "scatter",
        "mode": "lines",
        "x": x,
        "y": y,
        "customdata": numbers,
        "hovertemplate": TRIAL_HOVER,
        "connectgaps": False,
    }


def _layout(titles: Sequence[str], scales: Sequence[AxisScale]) -> dict[str, Any]:
    """Axes as vertical lines, their marks and names as annotations."""
    vertical = {"type": "line", "y0": 0, "y1": 1, "layer": "below", "line": {"color": "var:faint", "width": 1.5}}
    marks = [
        {
            "x": place,
            "y": round_significant(round(height, 4)),
            "text": text(word, MAX_TICK_CHARACTERS),
            "xanchor": "right",
            "xshift": -4,
        }
        for place, axis in enumerate(scales)
        for height, word in axis.marks
    ]
    names = [
        {"x": place, "y": 1.05, "text": _broken(title), "yanchor": "bottom", "font": {"color": "var:ink", "size": 11}}
        for place, title in enumerate(titles)
    ]
    # The first axis has half a column for its marks; the margin adds the space that they need beyond it.
    longest = max((min(len(word), MAX_TICK_CHARACTERS) for _, word in scales[0].marks), default=0)
    plain = {"showarrow": False, "font": {"color": "var:soft", "size": 10}, "bgcolor": "var:panel", "borderpad": 1}
    blank = {
        "showgrid": False,
        "showline": False,
        "zeroline": False,
        "showticklabels": False,
        "ticks": "",
        "fixedrange": True,
    }
    return {
        "xaxis": {"range": [-0.55, len(titles) - 0.7], **blank},
        "yaxis": {"range": [MISSING_HEIGHT - 0.03, 1.2], **blank},
        "shapes": [vertical | {"x0": place, "x1": place} for place in range(len(titles))],
        "annotations": [plain | mark for mark in marks] + [plain | name for name in names],
        "margin": {"l": max(6, CHARACTER_PX * longest - 40), "r": 6, "t": 8, "b": 6},
        "meta": {"scrolls": 96 * len(titles)},
    }


def _broken(title: str) -> str:
    """A dotted name on two lines, its last part below, since axis names are close together."""
    branch, _, leaf = title.rpartition(".")
    return f"{text(branch.removeprefix('adaptation.'), 16)}<br>{text(leaf, 20)}" if branch else text(leaf, 20)
