"""The report of a run, written again from its journal and the scores that were kept; nothing is trained or scored."""

from __future__ import annotations

import tempfile
from pathlib import Path

from finesearch.errors import InputError
from finesearch.plan import Plan, parse_plan
from finesearch.report import write_report
from finesearch.run.build_record import build_record
from finesearch.run.final_scoring import load_final_scores
from finesearch.run.open_search import open_search_controller
from finesearch.run.preflight import run_preflight
from finesearch.run.run_storage import PLAN, RunStorage
from finesearch.storage.object_store import Place, is_remote
from finesearch.storage.run_lock import RunLock
from finesearch.tuning.controller.trial_queue import SEARCH
from finesearch.tuning.study.study_storage import database_url


def rebuild_report(run: str | Path, reports: Path) -> Path:
    """Write the report of the run in ``run``, a folder or a URI; the path of its HTML.

    Of a run in an object store, a copy is read: it may be under way.

    Raises:
        InputError: ``run`` is no run.
        RunConflictError: a driver is working on the folder (and refreshes the report itself).
    """
    if is_remote(run):
        place = Place(str(run))
        with tempfile.TemporaryDirectory(prefix="finesearch-report-") as copy:
            run_storage = RunStorage(place.name, Path(copy), place)
            run_storage.fetch()
            return _rewrite(run_storage, _plan_of(run_storage), reports)
    folder = Path(str(run).removeprefix("file://")).absolute()
    run_storage = RunStorage(folder.name, folder, None, joins=False)
    plan = _plan_of(run_storage)
    with RunLock(folder):
        return _rewrite(run_storage, plan, reports)


def _plan_of(run_storage: RunStorage) -> Plan:
    path = run_storage.folder / PLAN
    if not path.exists():
        raise InputError(
            f"{run_storage.shown}: this is no run folder. Expected one with plan.yaml in it, such as runs/quickstart."
        )
    return parse_plan(path.read_text(encoding="utf-8"), str(path))


def _rewrite(run_storage: RunStorage, plan: Plan, reports: Path) -> Path:
    run_storage.name, run_storage.database = plan.name, database_url(plan)
    preflight = run_preflight(plan, run_storage.folder / "cache")
    controller = open_search_controller(plan, run_storage, unsupported_baselines=preflight.unsupported_baselines)
    final_scores, complete = load_final_scores(controller, preflight, run_storage)
    partial = not complete or controller.journals[SEARCH].counts()["running"] > 0
    command = f"finesearch report {run_storage.shown if run_storage.place else run_storage.folder.name}"
    record = build_record(controller, preflight, final_scores, partial, command)
    return write_report(record, reports / plan.name)
