"""Figures that Plotly accepts, that say what they leave out and that stay small."""

import json
from typing import Any

import numpy as np
import plotly.graph_objects as go
import pytest
from report_records import search_record

from finesearch.report import ObjectiveRow, RunRecord, StepRow, TrialRow, pareto_front
from finesearch.report.figures import (
    all_figures,
    best_so_far,
    cost_scatter,
    importance_bars,
    learning_curves,
    parallel_coordinates,
    timeline,
)
from finesearch.report.figures.axis_scale import scale
from finesearch.report.page_sections import key_figures


def with_colours(value: Any) -> Any:
    """The same figure with a colour wherever a name of one stands, as the page does it."""
    if isinstance(value, dict):
        return {key: with_colours(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [with_colours(inner) for inner in value]
    return "#123456" if isinstance(value, str) and value.startswith("var:") else value


def two_objectives(trials: int = 40) -> RunRecord:
    record = search_record(trials=trials)
    rows = [
        row if row.values is None else row.model_copy(update={"values": (row.values[0], row.seconds)})
        for row in record.trials
    ]
    complete = [row for row in rows if row.values is not None]
    front = [complete[i].trial for i in pareto_front([row.values for row in complete], ["max", "min"])]
    objectives = [ObjectiveRow(name="accuracy", goal="max"), ObjectiveRow(name="seconds", goal="min")]
    return RunRecord(**(record.model_dump() | {"objectives": objectives, "trials": rows, "front": front}))


RECORDS = {
    "a usual search": lambda: search_record(trials=24),
    "several objectives": two_objectives,
    "a thousand trials": lambda: search_record(trials=1000, groups=8),
    "one trial": lambda: search_record(trials=1),
    "no trial": lambda: RunRecord(name="a", metric="accuracy", goal="max"),
    "all failed": lambda: RunRecord(
        name="a", metric="accuracy", goal="max", trials=[TrialRow(trial=i, state="failed") for i in range(3)]
    ),
}


@pytest.mark.parametrize("name", RECORDS)
def test_plotly_accepts_every_figure(name):
    for figure in all_figures(RECORDS[name]()):
        go.Figure(data=with_colours(list(figure.traces)), layout=with_colours(figure.layout))
        json.dumps([list(figure.traces), figure.layout], allow_nan=False)
        assert figure.caption


@pytest.mark.parametrize("name", ["no trial", "all failed"])
def test_with_nothing_to_draw_the_caption_says_why(name):
    for figure in all_figures(RECORDS[name]()):
        assert not figure.traces
        assert figure.caption.endswith(".")


def test_a_usual_search_has_all_six_figures():
    keys = [figure.key for figure in all_figures(search_record(trials=24)) if figure.traces]
    assert keys == ["history", "curves", "importances", "cost", "parallel", "timeline"]


@pytest.mark.parametrize(("goal", "best"), [("max", [0.5, 0.7, 0.7]), ("min", [0.5, 0.3, 0.3])])
def test_the_best_so_far_follows_the_goal(goal, best):
    rows = [TrialRow(trial=number, state="complete", values=[v]) for number, v in enumerate([0.5, 0.7, 0.3, 0.6])]
    if goal == "max":
        rows = rows[:2] + rows[3:]
    figure = best_so_far(RunRecord(name="a", metric="accuracy", goal=goal, trials=rows))
    line = next(trace for trace in figure.traces if trace["name"] == "best so far")
    assert line["y"] == best


@pytest.mark.parametrize(("checkpoint", "best"), [(None, 0.5), (0.7, 0.7)])
def test_a_pruned_trial_raises_the_best_so_far_by_its_best_checkpoint_alone(checkpoint, best):
    rows = [
        TrialRow(trial=0, state="complete", values=[0.5]),
        TrialRow(trial=1, state="pruned", best=checkpoint, history=[StepRow(step=1, value=0.99)]),
    ]
    figure = best_so_far(RunRecord(name="a", metric="accuracy", goal="max", trials=rows))
    line = next(trace for trace in figure.traces if trace["name"] == "best so far")
    assert max(line["y"]) == best
    assert ("best checkpoint" in figure.caption) == (checkpoint is not None)


def test_learning_curves_of_many_trials_are_thinned_and_the_caption_says_so():
    record = search_record(trials=1000)
    figure = learning_curves(record)
    assert "80 of the 997 trials that are not ranked are drawn" in figure.caption
    drawn = {number for trace in figure.traces for number in trace["customdata"] if number is not None}
    assert len(drawn) == 83
    assert {row.trial for row in record.ranked} <= drawn


def test_learning_curves_of_few_trials_are_all_drawn():
    record = search_record(trials=24)
    drawn = {number for trace in learning_curves(record).traces for number in trace["customdata"] if number is not None}
    assert drawn == {row.trial for row in record.trials}


def test_long_histories_keep_their_ends():
    steps = [StepRow(step=i, epoch=i / 100, value=i / 1000) for i in range(1, 501)]
    record = RunRecord(
        name="a", metric="accuracy", goal="max", trials=[TrialRow(trial=0, state="running", history=steps)]
    )
    figure = learning_curves(record)
    x = figure.traces[0]["x"]
    assert (x[0], x[-2], len(x)) == (0.01, 5, 41)
    assert "At most 40 evaluations a trial are drawn." in figure.caption


def test_importances_are_sorted_with_the_greatest_on_top():
    record = search_record(importances={"a": 0.1, "b": 0.7, "c": float("nan")})
    bars = importance_bars(record).traces[0]
    assert (bars["y"], bars["x"]) == (["a", "b"], [0.1, 0.7])


def test_a_line_runs_below_the_axis_of_a_parameter_that_the_trial_does_not_have():
    rows = [
        TrialRow(trial=0, state="complete", values=[0.5], parameters={"adaptation": "full", "rate": 1.0}),
        TrialRow(trial=1, state="complete", values=[0.7], parameters={"adaptation": "head_only"}),
    ]
    figure = parallel_coordinates(RunRecord(name="a", metric="accuracy", goal="max", trials=rows))
    line = next(trace for trace in figure.traces if trace["customdata"][0] == 1)
    assert line["y"] == [1, -0.16, 1, None]


def test_parameters_that_do_not_vary_have_no_axis():
    rows = [
        TrialRow(trial=i, state="complete", values=[i / 10], parameters={"fixed": 3, "rate": float(i)})
        for i in range(3)
    ]
    figure = parallel_coordinates(RunRecord(name="a", metric="accuracy", goal="max", trials=rows))
    titles = [note["text"] for note in figure.layout["annotations"] if note["font"]["color"] == "var:ink"]
    assert titles == ["rate", "accuracy"]


def test_values_drawn_over_magnitudes_get_a_logarithmic_axis_and_even_ones_a_linear():
    rng = np.random.default_rng(0)
    assert scale([float(10 ** rng.uniform(-6, -2)) for _ in range(50)]).kind == "log"
    assert scale([float(rng.uniform(0, 0.3)) for _ in range(500)]).kind == "linear"
    assert scale([0.0, 0.1]).kind == "linear"
    assert scale([True, False]).kind == "category"
    assert scale([1, 5]).marks == ((0.0, "1"), (0.25, "2"), (0.5, "3"), (0.75, "4"), (1.0, "5"))


def test_with_a_price_the_cost_of_a_trial_is_money():
    plain = search_record()
    cost = plain.cost | {"per_device_hour": 7.2, "money": 7.2 * plain.cost["device_seconds"] / 3600}
    record = search_record(cost=cost)
    ((figure,), (before,)) = cost_scatter(record), cost_scatter(plain)
    assert figure.layout["xaxis"]["title"]["text"] == "cost in money"
    assert "against the cost of each trial's training" in figure.caption
    shown = {number: x for trace in figure.traces for number, x in zip(trace["customdata"], trace["x"], strict=True)}
    rows = {row.trial: row for row in record.trials}
    assert before.layout["xaxis"]["title"]["text"] == "training seconds"
    assert len(shown) > 3
    for number, money in shown.items():
        assert money == pytest.approx(rows[number].device_seconds * 0.002, rel=1e-3)
    assert (f"{cost['money']:,.2f}", "cost of training, at 7.2 a device-hour") in key_figures(record)


def test_with_several_objectives_each_cost_has_a_figure_with_the_front():
    record = two_objectives()
    (figure,) = cost_scatter(record)
    front = next(trace for trace in figure.traces if trace["name"] == "Pareto front")
    assert set(front["customdata"]) == set(record.front)
    assert front["x"] == sorted(front["x"])
    assert f"{len(record.front)} on the Pareto front" in figure.caption


def test_the_timeline_draws_a_running_trial_up_to_now():
    rows = [
        TrialRow(trial=0, state="complete", values=[0.5], started=1000.0, finished=1030.0, group="a"),
        TrialRow(trial=1, state="running", started=1030.0, group="a"),
        TrialRow(trial=2, state="failed", reason="never started"),
    ]
    figure = timeline(RunRecord(name="a", metric="accuracy", goal="max", trials=rows, updated=1045.0))
    running = next(trace for trace in figure.traces if trace["name"] == "running")
    assert (running["base"], running["x"], running["y"]) == ([30], [15], ["a"])
    assert figure.caption.startswith("2 trials on 1 group")


def test_a_thousand_trials_take_less_than_a_megabyte():
    figures = all_figures(search_record(trials=1000, groups=8))
    written = json.dumps([[list(figure.traces), figure.layout] for figure in figures], separators=(",", ":"))
    assert len(written) < 400_000


def test_text_of_trials_is_no_markup_for_plotly():
    rows = [
        TrialRow(
            trial=i,
            state="complete",
            values=[i / 10],
            parameters={"<b>name</b>": "<a href='x'>" if i else "plain"},
            started=1.0,
            finished=2.0,
            group="<i>group</i>",
        )
        for i in range(2)
    ]
    record = RunRecord(name="a", metric="<u>metric</u>", goal="max", trials=rows, importances={"<s>x</s>": 0.5})
    written = json.dumps([[list(figure.traces), figure.layout] for figure in all_figures(record)])
    for markup in ("<b>", "<a ", "<i>", "<u>", "<s>"):
        assert markup not in written
    assert "&lt;i&gt;group" in written
