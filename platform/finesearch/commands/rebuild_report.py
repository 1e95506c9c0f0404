"""The report of a run, written again from its journal and the scores that were kept; nothing is trained or scored."""

from __future__ import annotations

import tempfile
from pathlib import Path

from finesearch.errors import InputError
from finesearch.plan import Plan, parse_plan
from finesearch.report import write_report
from finesearch.run.build_record import build_record
from finesearch.run.final_scoring import kept_standing
from finesearch.run.open_search import open_conductor
from finesearch.run.preflight import inspect
from finesearch.run.run_storage import PLAN, RunHome
from finesearch.storage.object_store import Place, is_remote
from finesearch.storage.run_lock import RunLock
from finesearch.tuning.controller.search_controller import SEARCH
from finesearch.tuning.study.study_storage import database_url


def rewrite_report(run: str | Path, reports: Path) -> Path:
    """Write the report of the run in ``run``, a folder or a URI; the path of its HTML.

    Of a run in an object store, a copy is read: it may be under way.

    Raises:
        InputError: ``run`` is no run.
        RunConflictError: a driver is working on the folder (and refreshes the report itself).
    """
    if is_remote(run):
        place = Place(str(run))
        with tempfile.TemporaryDirectory(prefix="finesearch-report-") as copy:
            home = RunHome(place.name, Path(copy), place)
            home.fetch()
            return _rewrite(home, _plan_of(home), reports)
    folder = Path(str(run).removeprefix("file://")).absolute()
    home = RunHome(folder.name, folder, None, joins=False)
    plan = _plan_of(home)
    with RunLock(folder):
        return _rewrite(home, plan, reports)


def _plan_of(home: RunHome) -> Plan:
    path = home.folder / PLAN
    if not path.exists():
        raise InputError(
            f"{home.shown}: this is no run folder. Expected one with plan.yaml in it, such as runs/quickstart."
        )
    return parse_plan(path.read_text(encoding="utf-8"), str(path))


def _rewrite(home: RunHome, plan: Plan, reports: Path) -> Path:
    home.name, home.database = plan.name, database_url(plan)
    preflight = inspect(plan, home.folder / "cache")
    conductor = open_conductor(plan, home, unfit=preflight.unfit)
    standing, complete = kept_standing(conductor, preflight, home)
    partial = not complete or conductor.journals[SEARCH].counts()["running"] > 0
    command = f"finesearch report {home.shown if home.place else home.folder.name}"
    record = build_record(conductor, preflight, standing, partial, command)
    return write_report(record, reports / plan.name)
