"""Checks before a search that the disk has space for its checkpoints."""

from __future__ import annotations

from pathlib import Path

from finesearch.errors import DiskFullError
from finesearch.plan import Plan
from finesearch.run.run_storage import run_store
from finesearch.tuning.study.paused_trials import KEPT, pauses_trials

RESUMABLE_COPIES = 7  # of a running trial: best (1), last with two moments (3), the next one being written (3)


AVERAGED_COPIES = 2  # the raw weights beside averaged ones, in the last checkpoint and in the next one


FINALIST_COPIES = 6  # of a stopped trial that may go on, beside its best: up to two checkpoints with two moments each


PAUSED_COPIES = 4  # of a paused trial: its best, and the newest checkpoint with two moments


SLACK_BYTES = 200_000_000


def disk_need(plan: Plan, trained_bytes: int, concurrent_trials: int) -> int:
    """Bytes that checkpoints take at most: running and ranked trials, what stopped ones go on from, a baseline.

    trained_bytes: the weights that the largest trial trains, which are all that a checkpoint holds.
    """
    kept = plan.report.top + 1 + len(plan.objectives)
    averaged = any(entry.key in ("ema_decay", "swa_start") for entry in plan.space.entries)
    copies = RESUMABLE_COPIES + (AVERAGED_COPIES if averaged else 0)
    finalists = min(plan.search.finish_top, plan.report.top) if plan.ranks_stopped_trials else 0
    going_on = finalists * FINALIST_COPIES
    if pauses_trials(plan):
        going_on = KEPT * (PAUSED_COPIES + averaged) + max(0, finalists - KEPT) * FINALIST_COPIES
    copies_in_all = concurrent_trials * copies + kept + going_on
    return copies_in_all * trained_bytes + SLACK_BYTES


def check_disk(plan: Plan, folder: Path, trained_bytes: int, concurrent_trials: int) -> int:
    """Refuse a search that may fill the disk; returns the bytes needed.

    Raises:
        DiskFullError: free space, or ``budget.disk_gib``, is less than checkpoints may take.
    """
    need, gib = disk_need(plan, trained_bytes, concurrent_trials), 1 << 30
    limit, name = _available_bytes(plan, folder), "the disk has free"
    if plan.budget.disk_gib is not None and plan.budget.disk_gib * gib < limit:
        limit, name = int(plan.budget.disk_gib * gib), "budget.disk_gib allows"
    if need > limit:
        raise DiskFullError(
            f"{folder}: checkpoints of {concurrent_trials} running and {plan.report.top} ranked trials may take "
            f"{need / gib:.2f} GiB; {name} {limit / gib:.2f} GiB. Free space, choose another --storage, or lower "
            "search.concurrent_trials, search.finish_top or report.top."
        )
    return need


def _available_bytes(plan: Plan, folder: Path) -> float:
    """Bytes available for checkpoints where they are kept; unknown (infinite) for an object store."""
    held = sum(path.stat().st_size for path in (folder / "checkpoints").rglob("*") if path.is_file())
    return run_store(plan).free_bytes() + held
