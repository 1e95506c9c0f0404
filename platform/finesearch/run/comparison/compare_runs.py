"""``finesearch compare``: the best checkpoints of several runs over the same test rows, with paired differences."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from finesearch.errors import InputError
from finesearch.plan import Plan, parse_plan
from finesearch.report.number_format import count, format_duration, interval_decimals, scored
from finesearch.run.ranked_json import RunReport, find_ranked_checkpoint, read_report
from finesearch.run.run_files import parse_run_file
from finesearch.run.run_storage import REPORT, SCORES
from finesearch.run.score_cache import SCORED_AGAIN, CheckpointScore, Intervals
from finesearch.storage.open_store import open_store
from finesearch.tasks import TaskFacts, make_task

if TYPE_CHECKING:
    from finesearch.tasks import Task

SHOWN = 12
"""Letters of a hash that are shown."""


@dataclass(frozen=True)
class ComparedRun:
    """A ranked checkpoint of one run, with its answers on test."""

    shown: str
    report: RunReport
    row: dict[str, Any]
    score: CheckpointScore
    facts: TaskFacts

    @cached_property
    def plan(self) -> Plan:
        return parse_plan(self.report.plan)

    @property
    def test_sha256(self) -> str:
        return str(self.report.reproduction.get("data_fingerprints", {}).get("test"))

    @property
    def task(self) -> Task:
        return make_task(self.plan.task).with_facts(self.facts)


def read_run(run: str, rank: int) -> ComparedRun:
    """The checkpoint of a rank (from 1) of a run in a folder or at a URI; reads neither data nor weights.

    Raises:
        InputError: there is no such run or rank, or an older version ranked it.
        StorageError: a file of the run holds something else.
    """
    from finesearch.training.checkpointing.checkpoint_record import FILE, CheckpointRecord

    ranked, store = find_ranked_checkpoint(run, rank), open_store(run)
    report = read_report(store)
    if report is None:
        raise InputError(
            f"{store.shown}: an older version ranked it, without {REPORT}. Repeat the command of its search: it writes "
            "the file and trains nothing."
        )
    row = dict(report.ranked[rank - 1])
    path = f"{SCORES}/trial-{row['trial']:04d}.json"
    content, record = store.read(path), open_store(ranked.checkpoint).read(FILE)
    if content is None or record is None:
        lost = f"{store.shown}/{path}" if content is None else f"{ranked.checkpoint}/{FILE}"
        raise InputError(f"{lost}: is gone. Repeat the command of the search: it scores again what is missing.")
    score = parse_run_file(content, f"{store.shown}/{path}", CheckpointScore, "final scores", SCORED_AGAIN)
    kept = parse_run_file(record, f"{ranked.checkpoint}/{FILE}", CheckpointRecord, "the record of a checkpoint")
    return ComparedRun(store.shown, report, row, score, TaskFacts.model_validate(kept.facts))


def compare_runs(runs: Sequence[str], rank: int) -> list[dict[str, Any]]:
    """A row for each run: its score on test with interval, and the paired difference to the first run.

    The difference is positive where the run is better than the first one. Intervals: 95 %, bootstrap, all on the same
    resamples of the test rows.

    Raises:
        InputError: see ``read_run``; or the runs differ in task, metric, test rows or labels.
        StorageError: see ``read_run``.
    """
    read = [read_run(run, rank) for run in runs]
    first = read[0]
    for other in read[1:]:
        _refuse_others(first, other)
    intervals = Intervals(first.plan, first.task)
    scores = [
        CheckpointScore(f"{place}", None, {}, each.score.test, each.score.predictions, each.score.references)
        for place, each in enumerate(read)
    ]
    return [
        {
            "run": each.shown,
            "name": each.row["name"],
            "metric": each.report.metric,
            "test": each.row["test"],
            "interval": intervals.of(score),
            "gain": None if place == 0 else _gain(first, each),
            "gain_interval": None if place == 0 else intervals.of_gain(score, scores[0]),
            "rows": len(score.references),
            "trainable_parameters": each.row["trainable_parameters"],
            "search_seconds": each.report.cost.get("seconds"),
            "model": each.plan.task.model,
        }
        for place, (each, score) in enumerate(zip(read, scores, strict=True))
    ]


def _gain(first: ComparedRun, other: ComparedRun) -> float | None:
    one, two = first.row["test"], other.row["test"]
    return None if one is None or two is None else (two - one) * (1 if first.report.goal == "max" else -1)


def _refuse_others(first: ComparedRun, other: ComparedRun) -> None:
    task, theirs = first.plan.task, other.plan.task
    pairs = (
        ("task.kind", task.kind, theirs.kind),
        ("task.form", task.form, theirs.form),
        ("task.metric", first.report.metric, other.report.metric),
        ("test rows (SHA-256)", first.test_sha256[:SHOWN], other.test_sha256[:SHOWN]),
        ("labels", ", ".join(first.facts.label_names), ", ".join(other.facts.label_names)),
        ("scored rows", len(first.score.references), len(other.score.references)),
    )
    for what, one, two in pairs:
        if one != two:
            raise InputError(
                f"{other.shown}: expected the same {what} as in {first.shown} ({one}), got {two}. Only runs over the "
                "same test rows, labels and metric can be compared."
            )


def comparison_text(rows: Sequence[dict[str, Any]]) -> str:
    """The rows as a table of text, and what the differences mean."""
    head = ("run", "best", f"test {rows[0]['metric']}, 95 %", "gain over the first", "trained", "search")
    table = [head, *(_cells(row) for row in rows)]
    widths = [max(len(line[place]) for line in table) for place in range(len(head))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in table]
    return "\n".join([*lines, f"{rows[0]['rows']:,} test rows, the same in all; differences are paired."])


def _cells(row: dict[str, Any]) -> tuple[str, ...]:
    gain = row["gain_interval"]
    if row["gain"] is None:
        said = ""
    elif gain is None:
        said = f"{row['gain']:+.4f}"
    else:
        decimals = interval_decimals(gain)
        chance = " (may be chance)" if gain[0] <= 0.0 <= gain[1] else ""
        said = f"{row['gain']:+.{decimals}f} ({gain[0]:+.{decimals}f} to {gain[1]:+.{decimals}f}){chance}"
    return (
        row["run"],
        row["name"],
        scored(row["test"], row["interval"]),
        said,
        count(row["trainable_parameters"]),
        format_duration(row["search_seconds"]),
    )
