"""A figure: Plotly traces and layout in plain JSON, with rounded numbers, named colours and escaped text.

Colours are written ``var:accent`` and looked up in the page's style sheet when drawn, so that one figure works for
light, dark and print. ``customdata`` of a point is a trial number; the page shows the trial's label beside it, so that
labels are stored once and not once a figure.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Any

from finesearch.report.number_format import parameter, score, shorten_line
from finesearch.report.ranking import verified_rows
from finesearch.report.run_record import RunRecord, TrialRow

Trace = dict[str, Any]

STATE_COLOURS = {"complete": "var:accent", "pruned": "var:muted", "failed": "var:bad", "running": "var:teal"}
RANK_COLOURS = ("var:good", "var:violet", "var:pink", "var:teal", "var:orange")
MANY_TRIALS = 200
TRIAL_HOVER = "%{customdata[1]}<extra></extra>"


@dataclass(frozen=True)
class Figure:
    """One figure: ``key`` names it in the page, ``caption`` says what it shows and what was left out.

    ``height`` is in pixels. A figure without traces is not drawn, and its caption says why.
    """

    key: str
    title: str
    caption: str
    traces: Sequence[Trace] = ()
    layout: dict[str, Any] = field(default_factory=dict)
    height: int = 340


def text(value: str, length: int = 60) -> str:
    """Text for Plotly, which reads ``<b>`` and ``<a>`` as markup: escaped, on one line, cut to ``length``.

    >>> text("<b>a</b> & b")
    '&lt;b&gt;a&lt;/b&gt; &amp; b'
    """
    return escape(shorten_line(value, length), quote=False)


def round_significant(value: float | None) -> float | int | None:
    """A number rounded to six significant digits, more than a figure can show.

    >>> round_significant(0.123456789), round_significant(3.0), round_significant(None)
    (0.123457, 3, None)
    """
    if value is None:
        return None
    short = float(f"{value:.6g}")
    return int(short) if short.is_integer() and abs(short) < 1e15 else short


def round_all(values: Iterable[float | None]) -> list[float | int | None]:
    return [round_significant(value) for value in values]


def spread(length: int, most: int) -> list[int]:
    """At most ``most`` indices below ``length``, evenly from the first to the last; ``most`` is at least two.

    >>> spread(10, most=4), spread(3, most=4)
    ([0, 3, 6, 9], [0, 1, 2])
    """
    return list(range(length)) if length <= most else [round(i * (length - 1) / (most - 1)) for i in range(most)]


def markers(rows: Sequence[TrialRow], x: Sequence[float | None], name: str, colour: str, size: int = 7) -> Trace:
    """A dot a trial at its validation value, with the trial's label on hover."""
    return {
        "type": "scatter",
        "mode": "markers",
        "name": name,
        "x": round_all(x),
        "y": round_all(row.value for row in rows),
        "customdata": [row.trial for row in rows],
        "hovertemplate": TRIAL_HOVER,
        "marker": {"color": colour, "size": size if len(rows) < MANY_TRIALS else size - 2, "opacity": 0.85},
    }


def axis(title: str, **more: Any) -> dict[str, Any]:
    return {"title": {"text": text(title)}, **more}


def ranked_colours(record: RunRecord) -> dict[int, tuple[str, str]]:
    """Colour and name of every ranked trial."""
    numbers = [row.trial for row in verified_rows(record) if row.trial is not None]
    return {
        number: (RANK_COLOURS[place % len(RANK_COLOURS)], f"rank {place + 1}: trial {number}")
        for place, number in enumerate(numbers)
    }


def trial_labels(record: RunRecord) -> dict[str, str]:
    """Hover labels by trial number; Plotly markup with the text in it escaped."""
    labels = {}
    for row in record.trials:
        lines = [f"<b>trial {row.trial}</b> · {row.state}"]
        if row.value is not None:
            lines[0] += f" · {text(record.metric)} {score(row.value)}"
        lines += [f"{text(name)} {text(parameter(value))}" for name, value in row.parameters.items()]
        labels[str(row.trial)] = "<br>".join(lines)
    return labels
