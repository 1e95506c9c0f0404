"""Figure: quality against training time, or against each cost objective, with the Pareto front."""

from collections.abc import Callable, Sequence
from typing import Any

from finesearch.report.figures.plotly_spec import Figure, Trace, axis, markers, ranked_colours, round_all
from finesearch.report.run_record import RunRecord, TrialRow

# Costs with a larger ratio of largest to smallest get a logarithmic axis.
LOG_SPAN = 30.0
UNITS = {"seconds": "seconds", "trainable_parameters": "trainable parameters", "checkpoint_bytes": "checkpoint bytes"}


def cost_scatter(record: RunRecord) -> list[Figure]:
    """One figure for each objective after the first; with one objective, quality against training time."""
    if len(record.objectives) < 2:
        return [_against_time(record)]
    return [_against_objective(record, place) for place in range(1, len(record.objectives))]


def _against_time(record: RunRecord) -> Figure:
    rows = [row for row in record.trials if row.value is not None and row.state in ("complete", "pruned")]
    caption = f"Validation {record.metric} against the training time of each trial; up and to the left is better."
    if record.goal == "min":
        caption = caption.replace("up", "down")
    cost_of, label = _paid(record) or (_seconds, "training seconds")
    if cost_of is not _seconds:
        caption = caption.replace("training time of each trial", "cost of each trial's training")
    return _figure("cost", "Quality against cost", caption, record, rows, cost_of=cost_of, label=label)


def _against_objective(record: RunRecord, place: int) -> Figure:
    objective = record.objectives[place]
    rows = [row for row in record.trials if row.state == "complete" and row.values and None not in row.values]
    cost_of, label = _value_of(place), UNITS.get(objective.name, objective.name)
    if objective.name == "seconds":
        cost_of, label = _paid(record) or (cost_of, label)
    wanted = "less" if objective.goal == "min" else "more"
    front = f"{len(record.front)} on the Pareto front" if record.front else "the Pareto front is not known yet"
    caption = (
        f"Validation {record.metric} against {label} ({wanted} is better); {front}: nothing else is at least as good "
        "in every objective and better in one."
    )
    return _figure(f"cost-{place}", f"Quality against {label}", caption, record, rows, cost_of=cost_of, label=label)


def _seconds(row: TrialRow) -> float | None:
    return row.seconds


def _paid(record: RunRecord) -> tuple[Callable[[TrialRow], float | None], str] | None:
    """What a trial cost in money, and the axis; None where the plan has no price."""
    price = record.per_device_hour
    return None if price is None else (lambda row: row.device_seconds / 3600 * price, "cost in money")


def _value_of(place: int) -> Callable[[TrialRow], float | None]:
    def value(row: TrialRow) -> float | None:
        return row.values[place] if row.values else None

    return value


def _figure(
    key: str,
    title: str,
    caption: str,
    record: RunRecord,
    rows: Sequence[TrialRow],
    *,
    cost_of: Callable[[TrialRow], float | None],
    label: str,
) -> Figure:
    if not rows:
        return Figure(key, title, "No trial has finished.")
    ranked = ranked_colours(record)
    plain = [row for row in rows if row.trial not in ranked]
    traces: list[Trace] = []
    for state, colour in (("pruned", "var:muted"), ("complete", "var:accent")):
        chosen = [row for row in plain if row.state == state]
        if chosen:
            traces.append(markers(chosen, [cost_of(row) for row in chosen], state, colour))
    traces += _front(record, rows, cost_of)
    by_number = {row.trial: row for row in rows}
    for number, (colour, name) in ranked.items():
        if number in by_number:
            traces.append(markers([by_number[number]], [cost_of(by_number[number])], name, colour, size=11))
    known = [cost for cost in (cost_of(row) for row in rows) if cost is not None]
    layout = {"xaxis": axis(label, **_kind(known)), "yaxis": axis(f"validation {record.metric}")}
    return Figure(key, title, caption, traces, layout)


def _front(record: RunRecord, rows: Sequence[TrialRow], cost_of: Callable[[TrialRow], float | None]) -> list[Trace]:
    members = set(record.front)
    chosen = sorted((row for row in rows if row.trial in members), key=lambda row: cost_of(row) or 0.0)
    if not chosen:
        return []
    trace = markers(chosen, [cost_of(row) for row in chosen], "Pareto front", "var:orange", size=9)
    trace["x"], trace["y"] = round_all(cost_of(row) for row in chosen), round_all(row.value for row in chosen)
    if len(record.objectives) == 2:
        # With more objectives the front is a surface, and a line through its projection would mislead.
        shape = "hv" if record.objectives[1].goal == "min" else "vh"
        trace |= {"mode": "lines+markers", "line": {"color": "var:orange", "width": 1.5, "shape": shape}}
    return [trace]


def _kind(costs: Sequence[float]) -> dict[str, Any]:
    if costs and min(costs) > 0 and max(costs) / min(costs) > LOG_SPAN:
        return {"type": "log"}
    return {"rangemode": "tozero"}
