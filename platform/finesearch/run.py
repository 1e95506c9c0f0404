"""run_search(plan): the one place where the floors meet.

lock ─▶ plan.yaml ─▶ preflight ─▶ Ray ─▶ journal ─▶ conductor ─▶ trials ─▶ final scores ─▶ report
"""

from __future__ import annotations

import contextlib
import functools
import threading
import time
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import psutil

from finesearch.durable import replace_synced, storage_errors
from finesearch.errors import FinesearchError, RunConflictError, SearchError, StorageError
from finesearch.outcome import Standing, build_record
from finesearch.places import is_uploaded, results_home
from finesearch.plan import FIXED_RECIPES, Plan, parse_plan
from finesearch.preflight import Preflight, check_disk, inspect, prepare_folder, run_folder
from finesearch.progress import Progress, duration
from finesearch.ranking_file import NAME as RANKED
from finesearch.ranking_file import write_ranking
from finesearch.report import RunRecord, write_report
from finesearch.signals import leave_cleanly
from finesearch.standing import kept_standing, rescoring_of, score_standing
from finesearch.training.cost import keeps_prefixes
from finesearch.training.workload import measure_workload
from finesearch.tuning import cluster
from finesearch.tuning.bench import TrainingBench
from finesearch.tuning.budget import Spending
from finesearch.tuning.conductor import BASELINES, SEARCH, Conductor
from finesearch.tuning.group import GroupSettings
from finesearch.tuning.journal import Direction, Journal
from finesearch.tuning.lock import RunLock
from finesearch.tuning.ray_beside import RayBeside
from finesearch.tuning.samplers import make_pruner
from finesearch.tuning.sqlite import open_storage
from finesearch.tuning.trial_costs import TrialCosts
from finesearch.tuning.verification import Standby

REFRESH_AT_LEAST_S = 10.0
REFRESH_SHARE = 0.05  # of the driver's time that may go into partial reports


@dataclass(frozen=True)
class Request:
    """One invocation: what to search, where results go, and how it was called."""

    plan: Plan
    reports: Path
    fresh: bool = False
    command: str = "finesearch search"


def run_search(request: Request, progress: Progress | None = None) -> RunRecord:
    """Search, or go on with a search, to its end; the record whose report lies in ``reports/NAME``.

    Must be called from the main thread. SIGINT and SIGTERM end the process with 130 or 143 after a partial report.

    Raises:
        InputError: plan, data, model or cluster do not fit; nothing was started.
        StorageError: disk full or not writable; what was finished is saved.
        SearchError: nothing could be ranked.
    """
    plan = request.plan
    progress = progress or Progress(plan)
    folder = run_folder(plan)
    if request.fresh:
        set_aside(folder)
    prepare_folder(folder)
    with RunLock(folder):
        settle_plan(plan, folder)
        if is_uploaded(Path.cwd()):
            progress.say(
                f"{plan.name}: this job runs in a copy of its directory that Ray deletes; runs and reports are"
            )
            progress.say(f"  kept below {results_home()} instead, unless --storage and --reports name other folders")
            progress.say("  (what .rayignore names, such as data/, did not travel: name it by a path that nodes reach)")
        ray = RayBeside()
        if not (folder / RANKED).exists():  # a run that was ranked before may need none
            ray.begin()
        try:
            progress.say(f"{plan.name}: reading data and model")
            preflight = inspect(plan, folder / "cache")
            for warning in (*preflight.notes, *preflight.warnings):
                progress.say(f"  note: {warning}")
            return _search(request, progress, folder, preflight, ray)
        finally:
            ray.end()


def _search(request: Request, progress: Progress, folder: Path, preflight: Preflight, ray: RayBeside) -> RunRecord:
    plan = request.plan
    workload = measure_workload(preflight.task, preflight.splits, preflight.facts, preflight.model)
    costs = TrialCosts(plan, workload, keeps_prefixes(plan.training))
    conductor = open_conductor(plan, folder, unfit=preflight.unfit, costs=costs)
    if conductor.is_finished:
        standing, is_complete = kept_standing(conductor, preflight, folder)
        if is_complete:  # nothing to run and nothing to score: Ray is not needed
            reporter = Reporter(request, conductor, preflight)
            record = reporter.write(standing, partial=False)
            write_ranking(folder, plan, record)
            return conclude(record, conductor, reporter, progress)
    ray.wait()
    capacity = cluster.measure()
    concurrent = cluster.fit_concurrency(plan, capacity, preflight.model.bytes_in_training)
    check_disk(plan, folder, preflight.model.bytes_in_training, concurrent)
    progress.say(f"{plan.name}: {capacity.describe()}; {concurrent} trial(s) at once; run folder {folder}")
    conductor.concurrent_trials = concurrent
    reporter = Reporter(request, conductor, preflight)
    conductor.spending.begin()
    with leave_cleanly(lambda code: reporter.leave(code, progress)):
        progress.start(conductor)
        reporter.start()
        try:
            standby = _execute(conductor, preflight, folder, progress)
        except FinesearchError:
            with contextlib.suppress(StorageError):
                reporter.write(Standing(), partial=True)
            raise
        finally:
            reporter.stop()
            progress.stop()
            conductor.spending.keep(force=True)
        progress.say(f"{plan.name}: scoring the best checkpoints again, in clean processes")
        standing = score_standing(conductor, preflight, folder, standby)
        conductor.spending.keep(force=True)
        record = reporter.write(standing, partial=False)
        write_ranking(folder, plan, record)
    return conclude(record, conductor, reporter, progress)


def open_conductor(
    plan: Plan,
    folder: Path,
    concurrent_trials: int = 1,
    unfit: Collection[str] = (),
    costs: TrialCosts | None = None,
) -> Conductor:
    """The journal on disk, loaded, and the policy over it.

    unfit: baselines that cannot be run. costs: what trials cost; needed where trials are asked for by cost.
    """
    storage = open_storage(folder / "study.db")
    directions = [Direction(o.name, o.goal == "max") for o in plan.objectives]
    search = Journal(storage, plan.name, directions, make_pruner(plan, plan.max_evaluations))
    baselines = Journal(storage, f"{plan.name} (baselines)", directions[:1])
    training = plan.training
    devices = training.workers_per_trial * (training.gpus_per_worker or training.cpus_per_worker)
    spending = Spending({SEARCH: search, BASELINES: baselines}, devices)
    fixed = {
        str(name): FIXED_RECIPES[name] for name in plan.report.baselines if name in FIXED_RECIPES and name not in unfit
    }
    return Conductor(plan, search, baselines, folder, concurrent_trials, spending, fixed, costs=costs)


def _execute(conductor: Conductor, preflight: Preflight, folder: Path, progress: Progress) -> Standby | None:
    """Run the trials; a process for final scoring where one could be made ready beside the last of them."""
    from finesearch.training.prefix.depth import cuts_of_space
    from finesearch.tuning.execute import execute

    plan = conductor.plan
    goal = plan.objectives[0].goal
    bench = functools.partial(
        TrainingBench,
        plan.task,
        plan.training,
        str(plan.base),
        str(folder / "cache"),
        plan.task.metric,
        goal,
        cuts_of_space(plan.space, preflight.model.num_layers),
    )
    made: list[Standby] = []

    def make_ready() -> None:
        needed = 2 * (cluster.GROUP_BYTES + 2 * preflight.model.bytes_in_training)
        if not plan.training.gpus_per_worker and psutil.virtual_memory().available > needed:
            made.append(Standby(rescoring_of(plan, folder)))

    if not conductor.is_finished:
        progress.say(f"{plan.name}: starting worker groups (about 10 s)")
    execute(
        conductor,
        GroupSettings(
            make_bench=bench,
            workers=plan.training.workers_per_trial,
            cpus_per_worker=plan.training.cpus_per_worker,
            gpus_per_worker=plan.training.gpus_per_worker,
            hang_timeout_s=plan.training.hang_timeout_s,
            fresh=plan.training.isolation == "fresh",
            run_name=plan.name,
            scratch=str(folder / "scratch"),
        ),
        make_ready,
    )
    return made[0] if made else None


def conclude(record: RunRecord, conductor: Conductor, reporter: Reporter, progress: Progress) -> RunRecord:
    """Say where the report is, or why there is nothing to rank."""
    from finesearch.report import verdict

    progress.say(f"{record.name}: {verdict(record).sentence}")
    progress.say(f"{record.name}: report in {reporter.path}; {duration(conductor.spending.seconds)} in all")
    if not any(row.error is None for row in record.ranked):
        why = conductor.closing or "no trial completed"
        raise SearchError(f"{record.name}: no checkpoint could be ranked: {why}. See {reporter.path}.")
    return record


class Reporter:
    """Writes the report: again and again while the search runs, marked partial, and once at the end."""

    def __init__(self, request: Request, conductor: Conductor, preflight: Preflight) -> None:
        self._request, self._conductor, self._preflight = request, conductor, preflight
        self.path = request.reports / request.plan.name / "report.html"
        self._writing = threading.Lock()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._refresh, daemon=True, name="report")

    def start(self) -> None:
        """Write a first partial report, which also loads what a last one before a signal will need; then refresh it."""
        self.write(Standing(), partial=True)
        self._thread.start()

    def stop(self) -> None:
        """End refreshing; a report being written is finished."""
        self._stopped.set()
        self._thread.join()

    def write(self, standing: Standing, partial: bool) -> RunRecord:
        """Write the report of what is journaled now."""
        with self._writing:
            record = build_record(self._conductor, self._preflight, standing, partial, self._request.command)
            write_report(record, self.path.parent)
            return record

    def leave(self, code: int, progress: Progress) -> None:
        """The last act before the process ends by a signal."""
        self._conductor.spending.keep(force=True)
        self.write(Standing(), partial=True)
        progress.say(
            f"\n{self._request.plan.name}: interrupted (exit {code}). Everything finished is saved; a partial report "
            "is in "
            f"{self.path}. The same command goes on."
        )

    def _refresh(self) -> None:
        pause = REFRESH_AT_LEAST_S
        while not self._stopped.wait(pause):
            began = time.monotonic()
            with contextlib.suppress(StorageError):  # a full disk is the search's to tell, not the refresher's
                self.write(Standing(), partial=True)
            pause = max(REFRESH_AT_LEAST_S, (time.monotonic() - began) / REFRESH_SHARE)


def settle_plan(plan: Plan, folder: Path) -> None:
    """Write the resolved plan into the run; hold a resumed one to the plan it began with, but for budget and report.

    Raises:
        RunConflictError: something other than budget, report or storage differs.
    """
    path = folder / "plan.yaml"
    if path.exists():
        differences = plan.differences(parse_plan(path.read_text(encoding="utf-8"), str(path)))
        if differences:
            listed = "\n  ".join(differences)
            raise RunConflictError(
                f"{folder}: this run was begun with another plan:\n  {listed}\n"
                "A run goes on only with the plan it began with (its budget may change). Restore those values, give "
                "the new search a --name of its own, or start over with --fresh (the old run is set aside)."
            )
        if path.read_bytes() == plan.to_yaml().encode():
            return
    with storage_errors(path):
        replace_synced(path, plan.to_yaml().encode())


def set_aside(folder: Path) -> None:
    """Rename an existing run, so that --fresh loses nothing.

    Raises:
        RunConflictError: a driver is working on it.
    """
    if not (folder / "plan.yaml").exists():
        return
    with RunLock(folder):
        number = 1
        while (old := folder.with_name(f"{folder.name}.old-{number}")).exists():
            number += 1
        folder.rename(old)
