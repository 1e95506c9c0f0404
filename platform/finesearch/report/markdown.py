"""report.md: the report as Markdown, for a terminal, a pull request or a mail."""

import re
from collections.abc import Iterable, Sequence

from finesearch.report.number_format import count, format_duration, format_utc, parameter, score, scored, shorten_line
from finesearch.report.page_sections import all_warnings, flatten, key_figures, partial_notice, reasons
from finesearch.report.ranking import refused, remarks, ties, unranked, verified_rows
from finesearch.report.run_record import RunRecord, ScoredRow
from finesearch.report.tables.ranking_table import ranking_rule, settings, validation
from finesearch.report.verdict import verdict

MAX_ROWS = 100
COLUMNS = (
    "",
    "",
    "validation",
    "revalidated",
    "test (95 % interval)",
    "trainable",
    "time",
    "hyperparameters",
    "checkpoint",
)


def markdown(record: RunRecord) -> str:
    """The whole text of report.md."""
    parts = [f"# {escape_markdown(record.name)}"]
    if record.partial:
        notice = partial_notice(record).split("; this page")[0] + "."
        parts.append(f"> **{escape_markdown(notice)}**")
    parts.append(f"**{escape_markdown(verdict(record).sentence)}**")
    parts.append(
        "\n".join(f"- {escape_markdown(value)}: {escape_markdown(label)}" for value, label in key_figures(record))
    )
    if record.updated is not None:
        parts.append(f"As of {format_utc(record.updated)}.")
    parts += _ranking(record)
    parts += _importances(record)
    parts += _bullets("Warnings", all_warnings(record))
    parts += _bullets("Notes", record.notes)
    parts += _unranked(record)
    parts += _reproduction(record)
    return "\n\n".join(part for part in parts if part) + "\n"


def escape_markdown(text: str) -> str:
    """Text without markup: one line, special characters of Markdown and HTML escaped.

    >>> print(escape_markdown("a|b <i> *c* _d_ e_f"))
    a\\|b \\<i\\> \\*c\\* \\_d\\_ e_f
    """
    # An underscore inside a word is not markup, and parameter names have many.
    return re.sub(r"([\\`*\[\]<>|#~&]|(?<!\w)_|_(?!\w))", r"\\\1", " ".join(text.split()))


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *([escape_markdown(cell) for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _ranking(record: RunRecord) -> list[str]:
    if not record.ranked and not record.baselines:
        return ["## Ranking", "Nothing is ranked."]
    rows = [_scored(str(place), row, remarks(row, record)) for place, row in enumerate(verified_rows(record), start=1)]
    rows += [_scored("refused", row, remarks(row, record)) for row in refused(record)]
    rows += [_scored("baseline", row, remarks(row, record)) for row in record.baselines]
    errors = [
        f"- {escape_markdown(row.name)}: {escape_markdown(row.error)}"
        for row in (*record.ranked, *record.baselines)
        if row.error
    ]
    rule = " ".join([ranking_rule(record), *ties(record)])
    return ["## Ranking", escape_markdown(rule), table(COLUMNS, rows), "\n".join(errors)]


def _scored(place: str, row: ScoredRow, remarked: Sequence[str] = ()) -> list[str]:
    return [
        place,
        "; ".join((row.name, *remarked)),
        validation(row),
        score(row.revalidated),
        scored(row.test, row.test_interval),
        count(row.trainable_parameters),
        format_duration(row.seconds),
        ", ".join(f"{name} {parameter(value)}" for name, value in settings(row).items()),
        row.checkpoint or "",
    ]


def _importances(record: RunRecord) -> list[str]:
    known = sorted(((v, name) for name, v in record.importances.items() if v is not None), reverse=True)
    if not known:
        return []
    rows = [(name, f"{value:.3f}") for value, name in known]
    return ["## Parameter importances (PED-ANOVA)", table(("parameter", "importance"), rows)]


def _bullets(title: str, lines: Sequence[str]) -> list[str]:
    return [f"## {title}", "\n".join(f"- {escape_markdown(line)}" for line in lines)] if lines else []


def _unranked(record: RunRecord) -> list[str]:
    entries = unranked(record)
    if not entries:
        return []
    rows = [
        (
            str(entry.row.trial),
            entry.row.state,
            score(entry.row.value),
            format_duration(entry.row.seconds),
            shorten_line(entry.reason, 200),
        )
        for entry in entries[:MAX_ROWS]
    ]
    more = len(entries) - len(rows)
    return [
        "## Trials without a rank",
        "\n".join(f"- {escape_markdown(line)}" for line in reasons(entries)),
        table(("trial", "state", "value", "time", "reason"), rows),
        f"{more:,} more stand in report.json and trials.parquet." if more else "",
    ]


def _reproduction(record: RunRecord) -> list[str]:
    parts: list[str] = []
    command = record.reproduction.get("command")
    if isinstance(command, str):
        parts.append(_fenced(command, "sh"))
    lines = [(key, value) for key, value in flatten(record.reproduction) if key != "command"]
    if lines:
        parts.append("\n".join(f"- {escape_markdown(key)}: {escape_markdown(value)}" for key, value in lines))
    if record.plan_yaml:
        parts.append(_fenced(record.plan_yaml, "yaml"))
    return ["## To repeat this", *parts] if parts else []


def _fenced(text: str, language: str) -> str:
    """Unchanged text in a code fence longer than any fence in it."""
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{text.rstrip()}\n{fence}"
