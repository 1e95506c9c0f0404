"""The ranking table of report.html: ranked checkpoints, refused ones and baselines, on one scale."""

from collections.abc import Sequence

from finesearch.report.baseline_rows import WITHOUT_SCALE, best_on_test
from finesearch.report.html import Html, concat_html, tag
from finesearch.report.number_format import MISSING_VALUE, count, format_duration, interval_decimals, parameter, score
from finesearch.report.ranking import refused, remarks, ties, verified_rows
from finesearch.report.run_record import Interval, RunRecord, Scalar, ScoredRow

COLUMNS = ("", "", "validation", "revalidated", "test, 95 % interval", "trainable", "time", "settings, checkpoint")
FOREST_WIDTH, FOREST_HEIGHT, FOREST_EDGE = 150, 18, 6


def ranking(record: RunRecord) -> Html:
    """The section with the table, or its replacement while nothing is ranked."""
    if not record.ranked and not record.baselines:
        return tag("section", tag("h2", "Ranking"), tag("p", "Nothing is ranked.", class_="empty"))
    bounds = _bounds([*record.ranked, *record.baselines])
    guide = best_on_test(record, [row for row in record.baselines if row.error is None])
    line = guide.test if guide else None
    rows = [
        _row(record, row, str(place), "winner" if place == 1 else "", bounds, line)
        for place, row in enumerate(verified_rows(record), start=1)
    ]
    rows += [_row(record, row, "refused", "refused", bounds, line) for row in refused(record)]
    rows += [_row(record, row, "baseline", "baseline", bounds, line) for row in record.baselines]
    head = tag("thead", tag("tr", *(tag("th", name, scope="col") for name in COLUMNS)))
    table = tag("table", head, tag("tbody", *rows), class_="ranking")
    explained = tag("p", ranking_rule(record), class_="caption")
    tied = [tag("p", sentence, class_="caption") for sentence in ties(record)]
    return tag("section", tag("h2", "Ranking"), explained, *tied, tag("div", table, class_="scroll"), class_="long")


def ranking_rule(record: RunRecord) -> str:
    """The rule of the ranking, in words."""
    better = "higher" if record.goal == "max" else "lower"
    is_chosen = any(row.chosen_validation is not None for row in (*record.ranked, *record.baselines))
    chosen = (
        " with the generation settings that were chosen there for each checkpoint, out of those that the plan lists,"
        " after training"
        if is_chosen
        else ""
    )
    is_stopped = any(row.stopped_at is not None for row in record.ranked)
    stopped = " A trial that was stopped early counts by its best checkpoint, and is marked." if is_stopped else ""
    return (
        f"Ordered by validation {record.metric} ({better} is better){chosen}; ties go to fewer trainable parameters, "
        "then to the lower trial number. Each checkpoint is reloaded and scored again on validation (revalidated) "
        f"before it is scored on test, once.{stopped}"
    )


def validation(row: ScoredRow) -> str:
    """The trial's score, and the one with the generation settings that were chosen after training."""
    return f"{score(row.validation)}{'' if row.chosen_validation is None else f' → {score(row.chosen_validation)}'}"


def _row(record: RunRecord, row: ScoredRow, place: str, kind: str, bounds: Interval | None, line: float | None) -> Html:
    said = [tag("small", remark) for remark in remarks(row, record)]
    name = concat_html(tag("b", row.name), *said, *([tag("small", row.error, class_="error")] if row.error else []))
    return tag(
        "tr",
        _title(place),
        _title(name),
        _cell("validation", validation(row), number=True),
        _cell("revalidated", score(row.revalidated), number=True),
        _cell(f"test {record.metric}", _test(row, record.metric, bounds, line), number=True),
        _cell("trainable", count(row.trainable_parameters), number=True),
        _cell("time", format_duration(row.seconds), number=True),
        _cell("settings", _settings(row)),
        class_=kind or None,
    )


def _title(content: str) -> Html:
    return tag("td", tag("div", content), class_="title")


def _cell(label: str, content: str, number: bool = False) -> Html:
    # On a phone each cell is a line of its own, with its content in one element beside its label.
    return tag("td", tag("div", content), data_label=label, class_="number" if number else None)


def _test(row: ScoredRow, metric: str, bounds: Interval | None, line: float | None) -> Html:
    if row.test is None:
        return concat_html(MISSING_VALUE)
    decimals = interval_decimals(row.test_interval)
    parts = [tag("b", score(row.test, decimals))]
    if row.test_interval is not None:
        low, high = (score(bound, decimals) for bound in row.test_interval)
        parts.append(concat_html(f"  {low} to {high}"))
    if bounds is not None:
        parts.append(_forest(row, bounds, line))
    others = [f"{name} {score(value, 3)}" for name, value in row.test_metrics.items() if name != metric]
    return concat_html(*parts, *([tag("small", " · ".join(others))] if others else []))


def settings(row: ScoredRow) -> dict[str, Scalar]:
    """Searched settings: the trial's parameters, and the generation settings that were chosen after training."""
    return {**row.parameters, **{f"generation.{name}": value for name, value in row.generation.items()}}


def _settings(row: ScoredRow) -> Html:
    chips = [
        tag("span", f"{name} ", tag("b", parameter(value)), class_="chip") for name, value in settings(row).items()
    ]
    path = [tag("code", row.checkpoint, class_="checkpoint")] if row.checkpoint else []
    return concat_html(*([tag("div", *chips, class_="chips")] if chips else []), *path)


def _bounds(rows: Sequence[ScoredRow]) -> Interval | None:
    """The scale on which all intervals of the table are drawn; some baselines do not count (``WITHOUT_SCALE``).

    A row outside of it shows its numbers and no drawing.
    """
    trained = [row for row in rows if row.name not in WITHOUT_SCALE]
    ranges = [row.test_interval or (row.test, row.test) for row in trained if row.test is not None]
    if not ranges:
        return None
    low, high = min(bounds[0] for bounds in ranges), max(bounds[1] for bounds in ranges)
    return (low, high) if high > low else None


def _forest(row: ScoredRow, bounds: Interval, line: float | None) -> Html:
    """The interval drawn as a whisker with a dot at the score; the dashed line is the best baseline's score."""
    assert row.test is not None
    low, high = row.test_interval or (row.test, row.test)
    if low < bounds[0] or high > bounds[1]:
        return Html("")

    def x(value: float) -> str:
        return f"{FOREST_EDGE + (value - bounds[0]) / (bounds[1] - bounds[0]) * (FOREST_WIDTH - 2 * FOREST_EDGE):.1f}"

    middle = str(FOREST_HEIGHT // 2)
    guide = []
    if line is not None:
        guide = [tag("line", x1=x(line), x2=x(line), y1="0", y2=str(FOREST_HEIGHT), class_="guide")]
    whisker = tag("line", x1=x(low), x2=x(high), y1=middle, y2=middle, class_="span")
    dot = tag("circle", cx=x(row.test), cy=middle, r="4", class_="dot")
    return tag("svg", *guide, whisker, dot, class_="forest", viewBox=f"0 0 {FOREST_WIDTH} {FOREST_HEIGHT}", role="img")
