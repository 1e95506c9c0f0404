"""Figure: learning curves of the trials."""

from collections.abc import Sequence

from finesearch.report.figures.plotly_spec import (
    STATE_COLOURS,
    TRIAL_HOVER,
    Figure,
    Trace,
    axis,
    ranked_colours,
    round_significant,
    spread,
)
from finesearch.report.run_record import RunRecord, StepRow, TrialRow

MAX_CURVES = 80
MAX_POINTS = 40


def learning_curves(record: RunRecord) -> Figure:
    """Validation value against epochs; each ranked trial has its own colour."""
    rows = [row for row in record.trials if any(step.value is not None for step in row.history)]
    if not rows:
        return Figure("curves", "Learning curves", "No trial has been evaluated.")
    ranked = ranked_colours(record)
    others = [row for row in rows if row.trial not in ranked]
    drawn = subsample(others, MAX_CURVES, record.goal)
    by_epoch = all(step.epoch is not None for row in rows for step in row.history)
    traces = [
        _trace([row for row in drawn if row.state == state], state, STATE_COLOURS[state], by_epoch)
        for state in ("pruned", "failed", "complete", "running")
        if any(row.state == state for row in drawn)
    ]
    by_number = {row.trial: row for row in rows}
    for number, (colour, name) in ranked.items():
        if number in by_number:
            traces.append(_trace([by_number[number]], name, colour, by_epoch, width=2.5))
    caption = f"Validation {record.metric} at each evaluation."
    if len(drawn) < len(others):
        caption += (
            f" {len(drawn)} of the {len(others):,} trials that are not ranked are drawn, spread evenly from best to "
            "worst; trials.parquet has them all."
        )
    if any(len(row.history) > MAX_POINTS for row in rows):
        caption += f" At most {MAX_POINTS} evaluations a trial are drawn."
    layout = {"xaxis": axis("epoch" if by_epoch else "evaluation"), "yaxis": axis(f"validation {record.metric}")}
    return Figure("curves", "Learning curves", caption, traces, layout)


def subsample(rows: Sequence[TrialRow], most: int, goal: str) -> list[TrialRow]:
    """At most ``most`` rows, spread evenly from the best value to the worst; all if there are fewer.

    >>> rows = [TrialRow(trial=n, state="complete", values=[n / 10]) for n in range(10)]
    >>> [row.trial for row in subsample(rows, most=4, goal="max")]
    [9, 6, 3, 0]
    """
    if len(rows) <= most:
        return list(rows)
    best_first = sorted(rows, key=lambda row: row.value or 0.0, reverse=goal == "max")
    return [best_first[place] for place in spread(len(rows), most)]


def _subsample_steps(steps: Sequence[StepRow]) -> list[StepRow]:
    return [steps[place] for place in spread(len(steps), MAX_POINTS)]


def _trace(rows: Sequence[TrialRow], name: str, colour: str, by_epoch: bool, width: float = 1.0) -> Trace:
    """All curves of one kind as one line with gaps, which is much smaller than a trace a trial."""
    x: list[float | int | None] = []
    y: list[float | int | None] = []
    numbers: list[int | None] = []
    for row in rows:
        for step in _subsample_steps(row.history):
            x.append(round_significant(step.epoch) if by_epoch else step.step)
            y.append(round_significant(step.value))
            numbers.append(row.trial)
        x.append(None)
        y.append(None)
        numbers.append(None)
    return {
        "type": "scatter",
        "mode": "lines+markers",
        "name": name,
        "x": x,
        "y": y,
        "customdata": numbers,
        "hovertemplate": TRIAL_HOVER,
        "connectgaps": False,
        "opacity": 1.0 if width > 1 else 0.55,
        "line": {"color": colour, "width": width},
        "marker": {"color": colour, "size": 3 + width},
    }
