"""Reads and writes ranked.json and report.json in the run folder: what commands that use a run must know of it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from finesearch.errors import InputError
from finesearch.plan import Plan
from finesearch.report import RunRecord, ScoredRow
from finesearch.report.report_json import summary_json
from finesearch.run.run_files import parse_run_file
from finesearch.run.run_storage import PLAN, RANKED, REPORT, RunStorage
from finesearch.storage.open_store import open_store
from finesearch.storage.private_dirs import refuse_strangers_folder
from finesearch.storage.store import Store

AGAIN = "Restore the file from a copy, or repeat the command of the search: it writes the ranking again."


def write_ranking(run_storage: RunStorage, plan: Plan, record: RunRecord) -> None:
    """Store the report's content and the verified ranking with the run.

    Checkpoint paths of the ranking are relative to the run, so that it can be moved.
    """
    rows: list[dict[str, Any]] = []
    for row in record.ranked:
        if row.error is None and row.checkpoint is not None:
            fields = {"rank": len(rows) + 1, "trial": row.trial, "test": row.test}
            fields |= {"stopped_at": row.stopped_at, "evaluations": row.evaluations}
            kept = {"checkpoint": run_storage.store.relative(row.checkpoint), "generation": _complete(plan, row)}
            rows.append({**fields, **kept})
    run_storage.write(REPORT, summary_json(record).encode())
    run_storage.write(RANKED, (json.dumps(rows, indent=2) + "\n").encode())


def _complete(plan: Plan, row: ScoredRow) -> dict[str, Any]:
    """All generation settings with which a row was scored; empty where there was nothing to choose."""
    own = plan.task.generation
    return own.model_copy(update=row.generation).model_dump(mode="json") if own and row.generation else {}


@dataclass(frozen=True)
class RankedCheckpoint:
    """One ranked checkpoint: its folder or URI, and the generation settings that were chosen for it after training."""

    checkpoint: str
    generation: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class RunReport:
    """What report.json says of a run; see ``report_json``."""

    name: str
    metric: str
    goal: str
    verdict: Mapping[str, Any]
    baselines: Sequence[Mapping[str, Any]]
    ranked: Sequence[Mapping[str, Any]]
    cost: Mapping[str, Any]
    warnings: Sequence[str]
    reproduction: Mapping[str, Any]
    plan: str


def read_report(store: Store) -> RunReport | None:
    """The report that a run's folder holds; None where an older version ranked it.

    Raises:
        StorageError: the file holds something else.
    """
    content = store.read(REPORT)
    if content is None:
        return None
    return parse_run_file(content, f"{store.shown}/{REPORT}", RunReport, "the report of this run", AGAIN)


def find_ranked_checkpoint(run: str | Path, rank: int) -> RankedCheckpoint:
    """The checkpoint of a rank (from 1) of a run in a folder or at a URI.

    Raises:
        InputError: there is no such run, it has not ended, or it ranks fewer checkpoints.
        StorageError: the file holds something else, or the run is another user's.
    """
    store = open_store(run)
    if store.folder is not None:
        refuse_strangers_folder(store.folder)
    content = store.read(RANKED)
    if content is None:
        what = (
            "this run has no ranking yet; let its search end"
            if store.read(PLAN) is not None
            else "this is no run folder"
        )
        raise InputError(f"{store.shown}: {what}. Expected a folder such as runs/quickstart with {RANKED} in it.")
    rows = parse_run_file(content, f"{store.shown}/{RANKED}", list[RankedCheckpoint], "the ranking of this run", AGAIN)
    if not 1 <= rank <= len(rows):
        raise InputError(f"--rank {rank}: {store.shown} ranks {len(rows)} checkpoint(s). Expected 1 to {len(rows)}.")
    row = rows[rank - 1]
    return replace(row, checkpoint=store.resolve(row.checkpoint))
