"""ranked.json in the run folder: what the report ranked, for commands that act on a run."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from finesearch.durable import replace_synced, storage_errors
from finesearch.errors import InputError
from finesearch.plan import Plan
from finesearch.report import RunRecord, ScoredRow

NAME = "ranked.json"


def write_ranking(folder: Path, plan: Plan, record: RunRecord) -> None:
    """Keep the verified ranking with the run; checkpoints are named relative to it, so that a run can be moved."""
    rows: list[dict[str, Any]] = []
    for row in record.ranked:
        if row.error is None and row.checkpoint is not None:
            path = Path(row.checkpoint)
            inside = path.relative_to(folder) if path.is_relative_to(folder) else path
            told = {"rank": len(rows) + 1, "trial": row.trial, "test": row.test, "checkpoint": str(inside)}
            rows.append({**told, "generation": _complete(plan, row)})
    with storage_errors(folder / NAME):
        replace_synced(folder / NAME, (json.dumps(rows, indent=2) + "\n").encode())


def _complete(plan: Plan, row: ScoredRow) -> dict[str, Any]:
    """The generation settings of a row with which it was scored; none where there was nothing to choose."""
    own = plan.task.generation
    return own.model_copy(update=row.generation).model_dump(mode="json") if own and row.generation else {}


@dataclass(frozen=True)
class Ranked:
    """One ranked checkpoint: its folder, and the generation settings that were chosen for it after training."""

    checkpoint: Path
    generation: Mapping[str, Any]


def ranked_checkpoint(run: Path, rank: int) -> Ranked:
    """The checkpoint of a rank, counted from 1.

    Raises:
        InputError: there is no such run, it has not ended, or it ranks fewer checkpoints.
    """
    path = run / NAME
    if not path.exists():
        what = (
            "this run has no ranking yet; let its search end"
            if (run / "plan.yaml").exists()
            else "this is no run folder"
        )
        raise InputError(f"{run}: {what}. Expected a folder such as runs/quickstart with {NAME} in it.")
    rows = json.loads(path.read_text(encoding="utf-8"))
    if not 1 <= rank <= len(rows):
        raise InputError(f"--rank {rank}: {run} ranks {len(rows)} checkpoint(s). Expected 1 to {len(rows)}.")
    row = rows[rank - 1]
    return Ranked(run / str(row["checkpoint"]), row.get("generation", {}))
