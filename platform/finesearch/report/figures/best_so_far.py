"""Figure: the best value so far against the number of trials."""

from collections.abc import Sequence

from finesearch.report.baseline_rows import WITHOUT_SCALE
from finesearch.report.figures.plotly_spec import Figure, Trace, axis, markers, round_significant, text
from finesearch.report.number_format import pluralize, score
from finesearch.report.run_record import RunRecord, TrialRow


def best_so_far(record: RunRecord) -> Figure:
    """Validation value of every trial in the order in which they were drawn, and the best so far."""
    rows = sorted((row for row in record.trials if row.value is not None), key=lambda row: row.trial)
    title = "History"
    if not rows:
        return Figure("history", title, "No trial has reported a value.")
    traces: list[Trace] = []
    for state, colour in (("pruned", "var:muted"), ("running", "var:teal"), ("complete", "var:accent")):
        chosen = [row for row in rows if row.state == state]
        if chosen:
            traces.append(markers(chosen, [row.trial for row in chosen], state, colour))
    traces += _best_so_far(record) + _baselines(record, rows)
    silent = len(record.trials) - len([row for row in rows if row.state != "failed"])
    left_out = f" {pluralize(silent, 'trial')} without a result not drawn." if silent else ""
    drawn = "pruned trials at their last evaluation"
    if any(row.best is not None for row in rows):
        drawn += ", but in the best so far by their best checkpoint"
    caption = f"Validation {record.metric} by trial; {drawn}.{left_out}"
    layout = {"xaxis": axis("trial"), "yaxis": axis(f"validation {record.metric}")}
    return Figure("history", title, caption, traces, layout)


def _best_so_far(record: RunRecord) -> list[Trace]:
    sign = 1 if record.goal == "max" else -1
    x: list[int] = []
    y: list[float] = []
    for row in sorted(record.trials, key=lambda row: row.trial):
        value = row.ranking_value
        if value is not None and (not y or sign * value > sign * y[-1]):
            x.append(row.trial)
            y.append(value)
    if not y:
        return []
    last = max(row.trial for row in record.trials)
    return [
        {
            "type": "scatter",
            "mode": "lines",
            "name": "best so far",
            "x": [*x, last],
            "y": [round_significant(value) for value in (*y, y[-1])],
            "line": {"color": "var:good", "width": 2, "shape": "hv"},
            "hovertemplate": f"best so far {text(record.metric)} %{{y}}<extra></extra>",
        }
    ]


def _baselines(record: RunRecord, rows: Sequence[TrialRow]) -> list[Trace]:
    """A horizontal line for each baseline that does not flatten the rest."""
    first, last = rows[0].trial, rows[-1].trial
    return [
        {
            "type": "scatter",
            "mode": "lines",
            "name": text(row.name),
            "x": [first, max(last, first + 1)],
            "y": [round_significant(row.validation)] * 2,
            "line": {"color": "var:orange", "width": 1.5, "dash": "dash"},
            "hovertemplate": f"{text(row.name)} {score(row.validation)}<extra></extra>",
        }
        for row in record.baselines
        if row.validation is not None and row.name not in WITHOUT_SCALE
    ]
