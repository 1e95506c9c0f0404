"""Sections of report.html other than the ranking table and the figures."""

from collections import Counter
from collections.abc import Mapping

from pydantic import JsonValue

from finesearch.report.html import Html, concat_html, tag
from finesearch.report.number_format import (
    count,
    format_duration,
    format_utc,
    parameter,
    pluralize,
    score,
    shorten_line,
)
from finesearch.report.ranking import Unranked, count_by_state, full_name, unranked, verified_rows
from finesearch.report.run_record import RunRecord
from finesearch.report.verdict import verdict

MAX_OPEN_ROWS = 30
MAX_ROWS = 2000
MAX_FRONT_MEMBERS = 12


def page_opening(record: RunRecord) -> Html:
    """Name, banner where the report is partial, verdict and the key figures."""
    goal = "higher is better" if record.goal == "max" else "lower is better"
    subtitle = (
        f"{record.metric}, {goal} · {format_utc(record.updated)}" if record.updated else f"{record.metric}, {goal}"
    )
    claim = verdict(record)
    banner = [tag("div", partial_notice(record), class_="banner", role="status")] if record.partial else []
    header = tag("header", tag("h1", record.name), tag("p", subtitle, class_="subtitle"))
    return concat_html(header, *banner, tag("p", claim.sentence, class_=f"verdict {claim.tone}"), _tiles(record))


def partial_notice(record: RunRecord) -> str:
    """The banner of a partial report."""
    running = sum(row.state == "running" for row in record.trials)
    return (
        f"Partial: the search has not ended ({pluralize(running, 'trial')} running). Everything below may still "
        "change; "
        "this page reloads itself every half minute until the search ends."
    )


def key_figures(record: RunRecord) -> list[tuple[str, str]]:
    """The key figures, each with its name."""
    shown = [
        (f"{len(record.trials):,}", "trials: " + ", ".join(f"{n:,} {s}" for s, n in count_by_state(record).items()))
    ]
    ranked = verified_rows(record)
    if ranked:
        winner = ranked[0]
        where, value = ("test", winner.test) if winner.test is not None else ("validation", winner.validation)
        shown.insert(0, (score(value), f"{where} {record.metric} of {full_name(winner)}"))
        if winner.trainable_parameters is not None:
            shown.insert(1, (count(winner.trainable_parameters), "trainable parameters in it"))
    if record.front:
        members = ", ".join(str(number) for number in record.front[:MAX_FRONT_MEMBERS])
        more = len(record.front) - MAX_FRONT_MEMBERS
        shown.append((f"{len(record.front):,}", f"on the Pareto front: {members}{f' and {more} more' * (more > 0)}"))
    for key, label in (("seconds", "wall clock"), ("device_seconds", "device time")):
        seconds = record.cost.get(key)
        if isinstance(seconds, int | float):
            shown.append((format_duration(seconds), label))
    money = record.cost.get("money")
    if isinstance(money, int | float):
        shown.append((f"{money:,.2f}", f"cost of training, at {record.per_device_hour:g} a device-hour"))
    resumes = record.cost.get("resumes")
    if isinstance(resumes, int) and resumes:
        shown.append((str(resumes), "time resumed" if resumes == 1 else "times resumed"))
    return shown


def _tiles(record: RunRecord) -> Html:
    return tag(
        "div",
        *(tag("div", tag("b", value), tag("span", label), class_="tile") for value, label in key_figures(record)),
        class_="tiles",
    )


def notes_and_warnings(record: RunRecord) -> Html:
    """Notes and warnings, those of single trials with the trial's number."""
    parts = []
    warnings = all_warnings(record)
    if warnings:
        items = [tag("li", warning) for warning in warnings]
        parts.append(tag("section", tag("h2", "Warnings"), tag("ul", *items), class_="warnings"))
    if record.notes:
        parts.append(tag("section", tag("h2", "Notes"), tag("ul", *(tag("li", note) for note in record.notes))))
    return concat_html(*parts)


def all_warnings(record: RunRecord) -> list[str]:
    """Warnings of the run, then those of its trials; one that many trials share is listed once."""
    said: dict[str, list[int]] = {}
    for row in record.trials:
        for warning in row.warnings:
            said.setdefault(warning, []).append(row.trial)
    from_trials = [
        f"Trial {numbers[0]}: {warning}" if len(numbers) == 1 else f"{len(numbers):,} trials: {warning}"
        for warning, numbers in said.items()
    ]
    return [*record.warnings, *from_trials]


def unranked_section(record: RunRecord) -> Html:
    """Trials without a rank: a count by reason, then each of them."""
    entries = unranked(record)
    if not entries:
        return Html("")
    items = [tag("li", line) for line in reasons(entries)]
    names = ("trial", "state", "value", "time", "reason", "hyperparameters")
    head = tag("thead", tag("tr", *(tag("th", name, scope="col") for name in names)))
    rows = [_unranked_row(entry) for entry in entries[:MAX_ROWS]]
    table = tag("table", head, tag("tbody", *rows), class_="trials")
    label = f"All {len(entries):,}" if len(entries) <= MAX_ROWS else f"The first {MAX_ROWS:,} of {len(entries):,}"
    few = len(entries) <= MAX_OPEN_ROWS
    details = tag("details", tag("summary", label), table, open=few, class_="prints" if few else None)
    return tag("section", tag("h2", "Trials without a rank"), tag("ul", *items), details, class_="long")


def reasons(entries: list[Unranked], most: int = 12) -> list[str]:
    """Each state and reason with its number of trials, most frequent first within failed, running and the rest."""
    tally = Counter((entry.row.state, shorten_line(entry.reason, 200)) for entry in entries)
    lines = [f"{number:,} {state}: {reason}" for (state, reason), number in tally.most_common()]
    lines.sort(key=lambda line: " failed: " not in line)
    return lines if len(lines) <= most else [*lines[:most], f"{len(lines) - most:,} more reasons, listed below"]


def _unranked_row(entry: Unranked) -> Html:
    row = entry.row
    parameters = ", ".join(f"{name} {parameter(value)}" for name, value in row.parameters.items())
    cells = (
        ("trial", str(row.trial)),
        ("state", tag("span", row.state, class_=f"state {row.state}")),
        ("value", score(row.value)),
        ("time", format_duration(row.seconds)),
        ("reason", shorten_line(entry.reason, 400)),
        ("settings", parameters),
    )
    return tag("tr", *(tag("td", tag("div", content), data_label=label) for label, content in cells))


def reproduction_section(record: RunRecord) -> Html:
    """How to reproduce the search: the command, versions, seeds, fingerprints and the plan."""
    parts: list[Html] = []
    command = record.reproduction.get("command")
    if isinstance(command, str):
        parts.append(tag("pre", command))
    lines = [(key, value) for key, value in flatten(record.reproduction) if key != "command"]
    if lines:
        parts.append(tag("dl", *(concat_html(tag("dt", key), tag("dd", tag("code", value))) for key, value in lines)))
    if record.plan_yaml:
        plan = tag("pre", record.plan_yaml)
        parts.append(tag("details", tag("summary", "The resolved plan"), plan, class_="prints"))
    costs = flatten(record.cost)
    if costs:
        items = [concat_html(tag("dt", key), tag("dd", value)) for key, value in costs]
        parts.append(tag("details", tag("summary", "The whole cost"), tag("dl", *items), class_="prints"))
    return tag("section", tag("h2", "To repeat this"), *parts, class_="long") if parts else Html("")


def flatten(value: Mapping[str, JsonValue], prefix: str = "") -> list[tuple[str, str]]:
    """Nested settings as lines of dotted name and value.

    >>> flatten({"seeds": {"search": 0}, "hardware": ["2 cores", "no GPU"], "host": None})
    [('seeds.search', '0'), ('hardware', '2 cores, no GPU'), ('host', 'none')]
    """
    lines: list[tuple[str, str]] = []
    for key, inner in value.items():
        if isinstance(inner, Mapping):
            lines += flatten(inner, f"{prefix}{key}.")
        elif isinstance(inner, list):
            lines.append((f"{prefix}{key}", ", ".join(str(item) for item in inner)))
        else:
            lines.append((f"{prefix}{key}", parameter(inner)))
    return lines
