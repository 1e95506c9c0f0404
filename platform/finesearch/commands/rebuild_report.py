"""``finesearch report``: rewrites a run's report from its journal and cached scores; trains and scores nothing."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path

from finesearch.errors import InputError
from finesearch.report import write_index, write_report
from finesearch.run.build_record import build_record
from finesearch.run.final_scoring import load_final_scores
from finesearch.run.identity.begun_plan import read_begun_plan, read_choices
from finesearch.run.identity.run_identity import RunIdentity, check_identity, read_identity
from finesearch.run.open_search import open_search_controller
from finesearch.run.preflight import run_preflight
from finesearch.run.remote_run import run_storage_in
from finesearch.run.run_storage import PLAN, RunStorage
from finesearch.storage.open_store import open_store
from finesearch.tuning.controller.trial_queue import SEARCH
from finesearch.tuning.study.study_storage import database_url


def rebuild_report(run: str | Path, reports: Path) -> Path:
    """Write the report of the run in ``run``, a folder or a URI; returns the path of its HTML.

    Of a run in an object store, a copy is read, so it may still be running.

    Raises:
        InputError: ``run`` is not a run.
        RunConflictError: a driver is working on the folder (and refreshes the report itself).
    """
    store = open_store(run, Path.cwd())
    if store.read(PLAN) is None:
        raise InputError(
            f"{store.shown}: this is no run folder. Expected one with plan.yaml in it, such as runs/quickstart."
        )
    with tempfile.TemporaryDirectory(prefix="finesearch-report-") as copy:
        run_storage = run_storage_in(store, store.name, Path(copy))
        with run_storage.reading():
            return _rewrite(run_storage, reports)


def _rewrite(run_storage: RunStorage, reports: Path) -> Path:
    plan = read_begun_plan(run_storage)
    assert plan is not None, run_storage.folder
    run_storage.name, run_storage.database = plan.name, database_url(plan)
    preflight = run_preflight(plan, run_storage.folder / "cache", has_begun=True)
    preflight = replace(preflight, choices=read_choices(run_storage).notes)
    begun = read_identity(run_storage)
    if begun is not None:
        check_identity(begun, RunIdentity.of(plan, preflight), run_storage.shown)
    controller = open_search_controller(
        plan,
        run_storage,
        unsupported_baselines=preflight.unsupported_baselines,
        strong=preflight.strong,
        read_only=True,
    )
    final_scores, complete = load_final_scores(controller, preflight, run_storage)
    partial = not complete or controller.journals[SEARCH].counts()["running"] > 0
    command = f"finesearch report {run_storage.report_argument}"
    record = build_record(controller, preflight, final_scores, partial, command)
    page = write_report(record, reports / plan.name)
    write_index(reports)
    return page
