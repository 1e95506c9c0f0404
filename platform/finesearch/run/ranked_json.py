"""ranked.json in the run folder: what the report ranked, for commands that act on a run."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from finesearch.errors import InputError
from finesearch.plan import Plan
from finesearch.report import RunRecord, ScoredRow
from finesearch.run.run_storage import PLAN, RANKED, RunStorage
from finesearch.storage.atomic_files import replace_synced, storage_errors
from finesearch.storage.object_store import Place, is_remote


def write_ranking(run_storage: RunStorage, plan: Plan, record: RunRecord) -> None:
    """Keep the verified ranking with the run; checkpoints are named relative to it, so that a run can be moved."""
    rows: list[dict[str, Any]] = []
    for row in record.ranked:
        if row.error is None and row.checkpoint is not None:
            told = {"rank": len(rows) + 1, "trial": row.trial, "test": row.test}
            kept = {"checkpoint": _from(run_storage.storage, row.checkpoint), "generation": _complete(plan, row)}
            rows.append({**told, **kept})
    with storage_errors(run_storage.folder / RANKED):
        replace_synced(run_storage.folder / RANKED, (json.dumps(rows, indent=2) + "\n").encode())
    run_storage.persist(RANKED)


def _from(run: Path | Place, checkpoint: str) -> str:
    """A checkpoint's folder or URI as it is named from the run; in full where it lies elsewhere."""
    if isinstance(run, Place):
        path = Place(checkpoint).path if is_remote(checkpoint) else ""
        return path.removeprefix(f"{run.path}/") if path.startswith(f"{run.path}/") else checkpoint
    path_ = Path(checkpoint)
    return str(path_.relative_to(run) if path_.is_relative_to(run) else path_)


def _complete(plan: Plan, row: ScoredRow) -> dict[str, Any]:
    """The generation settings of a row with which it was scored; none where there was nothing to choose."""
    own = plan.task.generation
    return own.model_copy(update=row.generation).model_dump(mode="json") if own and row.generation else {}


@dataclass(frozen=True)
class RankedCheckpoint:
    """One ranked checkpoint: its folder or URI, and the generation settings that were chosen for it after training."""

    checkpoint: str
    generation: Mapping[str, Any]


def find_ranked_checkpoint(run: str | Path, rank: int) -> RankedCheckpoint:
    """The checkpoint of a rank, counted from 1, of a run in a folder or at a URI.

    Raises:
        InputError: there is no such run, it has not ended, or it ranks fewer checkpoints.
    """
    storage = Place(str(run)) if is_remote(run) else Path(str(run).removeprefix("file://"))
    shown = storage.shown if isinstance(storage, Place) else str(storage)
    content = _read(storage, RANKED)
    if content is None:
        what = (
            "this run has no ranking yet; let its search end"
            if _read(storage, PLAN) is not None
            else "this is no run folder"
        )
        raise InputError(f"{shown}: {what}. Expected a folder such as runs/quickstart with {RANKED} in it.")
    rows = json.loads(content)
    if not 1 <= rank <= len(rows):
        raise InputError(f"--rank {rank}: {shown} ranks {len(rows)} checkpoint(s). Expected 1 to {len(rows)}.")
    row = rows[rank - 1]
    named = str(row["checkpoint"])
    if isinstance(storage, Path):
        return RankedCheckpoint(str(storage / named), row.get("generation", {}))
    return RankedCheckpoint(named if is_remote(named) else storage.child(named).uri, row.get("generation", {}))


def _read(storage: Path | Place, name: str) -> bytes | None:
    if isinstance(storage, Place):
        return storage.read(name)
    return (storage / name).read_bytes() if (storage / name).exists() else None
