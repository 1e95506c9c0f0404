"""Sections of report.html with scores on parts of test: by class, by group of rows, and confusions."""

from itertools import groupby

from finesearch.report.html import Html, concat_html, tag
from finesearch.report.number_format import interval_decimals, score, scored
from finesearch.report.run_record import Breakdown, ClassRow, Confusion, GroupRow, RunRecord


def breakdown_sections(record: RunRecord) -> Html:
    """All of them; nothing while no checkpoint is ranked."""
    parts = record.breakdown
    return concat_html(
        *([_classes(parts)] if parts.classes else []),
        *([_confusion(parts.confusion, parts.winner)] if parts.confusion else []),
        *([_groups(record, parts)] if parts.groups else []),
        *([_examples(parts)] if parts.examples else []),
    )


def _table(head: list[str], rows: list[Html]) -> Html:
    titles = tag("thead", tag("tr", *(tag("th", name, scope="col") for name in head)))
    return tag("div", tag("table", titles, tag("tbody", *rows), class_="parts"), class_="scroll")


def _classes(parts: Breakdown) -> Html:
    caption = tag(
        "p",
        "F1 on test of each class, with precision and recall. Rows: how often the class is true. Checkpoints are in "
        "rank order, behind what they are compared with.",
        class_="caption",
    )
    rows = [_class_row(row, parts) for row in parts.classes]
    return tag(
        "section", tag("h2", "By class"), caption, _table(["class", "rows", *parts.systems], rows), class_="long"
    )


def _class_row(row: ClassRow, parts: Breakdown) -> Html:
    cells = []
    for system in parts.systems:
        each = row.scores[system]
        detail = tag("small", f"{score(each.precision, 2)} / {score(each.recall, 2)}")
        cells.append(tag("td", concat_html(tag("b", score(each.f1, 3)), detail), class_="number"))
    return tag("tr", tag("th", row.name, scope="row"), tag("td", f"{row.rows:,}", class_="number"), *cells)


def _confusion(confusion: Confusion, winner: str | None) -> Html:
    caption = tag(
        "p", f"What {winner} answered (columns) where each class was true (rows), in rows of test.", class_="caption"
    )
    rows = []
    for place, (name, counts) in enumerate(zip(confusion.names, confusion.counts, strict=True)):
        whole = sum(counts) or 1
        cells = [
            tag(
                "td",
                str(count) if count else "",
                class_="number right" if at == place else "number",
                style=f"--share:{count / whole:.2f}",
            )
            for at, count in enumerate(counts)
        ]
        rows.append(tag("tr", tag("th", name, scope="row"), *cells))
    table = _table(["true \\ answered", *confusion.names], rows)
    return tag("section", tag("h2", "Confusions"), caption, tag("div", table, class_="confusion"), class_="long")


def _groups(record: RunRecord, parts: Breakdown) -> Html:
    gain = (
        "" if parts.before is None else f" The last column is the gain of {parts.winner} over {parts.before}, paired."
    )
    caption = tag(
        "p",
        f"{record.metric} on groups of test rows, with 95 % intervals where a group has enough rows.{gain}",
        class_="caption",
    )
    sections = []
    for by, rows in groupby(parts.groups, key=lambda row: row.by):
        head = [by, "rows", *parts.systems, *(["gain"] if parts.before is not None else [])]
        sections.append(_table(head, [_group_row(row, parts) for row in rows]))
    return tag("section", tag("h2", "By group of rows"), caption, *sections, class_="long")


def _group_row(row: GroupRow, parts: Breakdown) -> Html:
    cells = [
        tag("td", scored(row.scores[system], row.intervals.get(system)), class_="number") for system in parts.systems
    ]
    if parts.before is not None:
        gain = row.gain_interval
        decimals = interval_decimals(gain)
        text = "" if gain is None else f"{gain[0]:+.{decimals}f} to {gain[1]:+.{decimals}f}"
        cells.append(tag("td", text, class_="number"))
    return tag("tr", tag("th", row.group, scope="row"), tag("td", f"{row.rows:,}", class_="number"), *cells)


def _examples(parts: Breakdown) -> Html:
    caption = tag(
        "p",
        f"Rows of test that {parts.winner} answers worst, those first that the others answer badly too. The plan's "
        "report.examples says how many are shown.",
        class_="caption",
    )
    rows = [
        tag(
            "tr",
            tag("th", f"{each.row:,}", scope="row"),
            tag("td", *(tag("p", tag("small", column), text) for column, text in each.inputs.items())),
            tag("td", each.true),
            *(tag("td", each.answers[system]) for system in parts.systems),
        )
        for each in parts.examples
    ]
    table = _table(["row", "input", "true", *parts.systems], rows)
    return tag("section", tag("h2", "Worst answers"), caption, tag("div", table, class_="examples"), class_="long")
