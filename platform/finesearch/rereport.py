"""The report of a run, written again from its journal and the scores that were kept; nothing is trained or scored."""

from __future__ import annotations

from pathlib import Path

from finesearch.errors import InputError
from finesearch.outcome import build_record
from finesearch.plan import parse_plan
from finesearch.preflight import inspect
from finesearch.report import write_report
from finesearch.run import open_conductor
from finesearch.standing import kept_standing
from finesearch.tuning.conductor import SEARCH
from finesearch.tuning.lock import RunLock


def rewrite_report(run: Path, reports: Path) -> Path:
    """Write the report of the run in folder ``run``; the path of its HTML.

    Raises:
        InputError: ``run`` is no run folder.
        RunConflictError: a driver is working on it (and refreshes the report itself).
    """
    run = run.absolute()
    path = run / "plan.yaml"
    if not path.exists():
        raise InputError(f"{run}: this is no run folder. Expected one with plan.yaml in it, such as runs/quickstart.")
    with RunLock(run):
        plan = parse_plan(path.read_text(encoding="utf-8"), str(path))
        preflight = inspect(plan, run / "cache")
        conductor = open_conductor(plan, run, unfit=preflight.unfit)
        standing, complete = kept_standing(conductor, preflight, run)
        partial = not complete or conductor.journals[SEARCH].counts()["running"] > 0
        record = build_record(conductor, preflight, standing, partial, f"finesearch report {run.name}")
        return write_report(record, reports / plan.name)
