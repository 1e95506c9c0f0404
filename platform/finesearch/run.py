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
from finesearch.homes import on_this_node
from finesearch.outcome import Standing, build_record
from finesearch.places import is_uploaded, results_home
from finesearch.plan import FIXED_RECIPES, Plan, parse_plan
from finesearch.preflight import Preflight, check_disk, inspect
from finesearch.progress import Progress, duration
from finesearch.ranking_file import write_ranking
from finesearch.report import RunRecord, write_report
from finesearch.run_home import PLAN, RANKED, RunHome, home_of
from finesearch.secrets import redact
from finesearch.signals import leave_cleanly
from finesearch.standing import kept_standing, rescoring_of, score_standing
from finesearch.training.cost import keeps_prefixes
from finesearch.training.workload import measure_workload
from finesearch.tuning import cluster, reach
from finesearch.tuning.bench import TrainingBench
from finesearch.tuning.budget import Spending
from finesearch.tuning.conductor import BASELINES, SEARCH, Conductor
from finesearch.tuning.group import GroupSettings
from finesearch.tuning.journal import Direction, Journal
from finesearch.tuning.ray_beside import RayBeside
from finesearch.tuning.room import Following, make_room
from finesearch.tuning.samplers import make_pruner
from finesearch.tuning.trial_costs import TrialCosts
from finesearch.tuning.verification import Standby
from finesearch.watching import Watching

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
    home = home_of(plan)
    if request.fresh:
        home.set_aside()
    home.prepare()
    with home.held(progress.say):
        settle_plan(plan, home)
        if is_uploaded(Path.cwd()):
            progress.say(
                f"{plan.name}: this job runs in a copy of its directory that Ray deletes; runs and reports are"
            )
            progress.say(f"  kept below {results_home()} instead, unless --storage and --reports name other folders")
            progress.say("  (what .rayignore names, such as data/, did not travel: name it by a path that nodes reach)")
        ray = RayBeside(plan.name)
        if not (home.folder / RANKED).exists():  # a run that was ranked before may need none
            ray.begin()
        try:
            progress.say(f"{plan.name}: reading data and model")
            preflight = inspect(plan, on_this_node(home.cache))
            for warning in (*preflight.notes, *preflight.warnings):
                progress.say(f"  note: {warning}")
            return _search(request, progress, home, preflight, ray)
        finally:
            ray.end()


def _search(request: Request, progress: Progress, home: RunHome, preflight: Preflight, ray: RayBeside) -> RunRecord:
    plan, folder = request.plan, home.folder
    conductor = open_conductor(plan, home, unfit=preflight.unfit)
    if conductor.is_finished:
        standing, is_complete = kept_standing(conductor, preflight, home)
        if is_complete:  # nothing to run and nothing to score: Ray is not needed
            reporter = Reporter(request, conductor, preflight)
            record = reporter.write(standing, partial=False)
            write_ranking(home, plan, record)
            return conclude(record, conductor, reporter, progress)
    workload = measure_workload(preflight.task, preflight.splits, preflight.facts, preflight.model)
    conductor.reckon_with(TrialCosts(plan, workload, keeps_prefixes(plan.training)))
    ray.wait()
    reach.check_reach(home.storage, lambda said: progress.say(f"{plan.name}: {said}"))
    capacity, concurrent = make_room(plan, preflight.model.bytes_in_training, progress.say)
    check_disk(plan, folder, preflight.model.bytes_in_training, concurrent)
    progress.say(f"{plan.name}: {capacity.describe()}; {concurrent} trial(s) at once; run folder {home.shown}")
    conductor.concurrent_trials = concurrent
    conductor.forget_unknown()
    reporter, watching = Reporter(request, conductor, preflight), Watching(conductor)
    conductor.spending.begin()
    with home.watched(conductor.give_up), leave_cleanly(lambda code: reporter.leave(code, progress, home)):
        progress.start(conductor)
        reporter.start()
        watching.start()
        try:
            standby = _execute(conductor, preflight, home, progress)
        except FinesearchError:
            with contextlib.suppress(StorageError):
                reporter.write(Standing(), partial=True)
            raise
        finally:
            watching.stop()
            reporter.stop()
            progress.stop()
            conductor.spending.keep(force=True)
        progress.say(f"{plan.name}: scoring the best checkpoints again, in clean processes")
        standing = score_standing(conductor, preflight, home, standby)
        conductor.spending.keep(force=True)
        record = reporter.write(standing, partial=False)
        write_ranking(home, plan, record)
    return conclude(record, conductor, reporter, progress)


def open_conductor(
    plan: Plan,
    home: RunHome | Path,
    concurrent_trials: int = 1,
    unfit: Collection[str] = (),
) -> Conductor:
    """The journal, loaded, and the policy over it.

    home: where the run lives; a folder stands for a run that lies in it and nowhere else. unfit: baselines that cannot
    be run.
    """
    home = home if isinstance(home, RunHome) else RunHome(plan.name, home, None, joins=False)
    storage, study = home.open_study()
    directions = [Direction(o.name, o.goal == "max") for o in plan.objectives]
    search = Journal(storage, study, directions, make_pruner(plan, plan.max_evaluations))
    baselines = Journal(storage, f"{study} (baselines)", directions[:1])
    training = plan.training
    devices = training.workers_per_trial * (training.gpus_per_worker or training.cpus_per_worker)
    spending = Spending({SEARCH: search, BASELINES: baselines}, devices)
    fixed = {
        str(name): FIXED_RECIPES[name] for name in plan.report.baselines if name in FIXED_RECIPES and name not in unfit
    }
    return Conductor(plan, search, baselines, home.storage, concurrent_trials, spending, fixed)


def _execute(conductor: Conductor, preflight: Preflight, home: RunHome, progress: Progress) -> Standby | None:
    """Run the trials; a process for final scoring where one could be made ready beside the last of them."""
    from finesearch.training.prefix.depth import cuts_of_space
    from finesearch.tuning.execute import execute
    from finesearch.tuning.trackers import Tracking, make_trackers

    plan = conductor.plan
    goal = plan.objectives[0].goal
    bench = functools.partial(
        TrainingBench,
        plan.task,
        plan.training,
        str(plan.base),
        home.cache,
        plan.task.metric,
        goal,
        cuts_of_space(plan.space, preflight.model.num_layers),
    )
    made: list[Standby] = []

    def make_ready() -> None:
        needed = 2 * (cluster.GROUP_BYTES + 2 * preflight.model.bytes_in_training)
        if not plan.training.gpus_per_worker and psutil.virtual_memory().available > needed:
            made.append(Standby(rescoring_of(plan, home)))

    callbacks = []
    if not conductor.is_finished:
        if plan.tracking.is_on:
            callbacks.append(Tracking(conductor, make_trackers(plan, home.folder), progress.say))
        progress.say(f"{plan.name}: starting worker groups (about 10 s)")
    settings = GroupSettings(
        make_bench=bench,
        workers=plan.training.workers_per_trial,
        cpus_per_worker=plan.training.cpus_per_worker,
        gpus_per_worker=plan.training.gpus_per_worker,
        hang_timeout_s=plan.training.hang_timeout_s,
        fresh=plan.training.isolation == "fresh",
        run_name=plan.name,
        scratch=str(home.folder / "scratch"),
    )
    with Following(plan, preflight.model.bytes_in_training, conductor):
        execute(conductor, settings, make_ready, callbacks)
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
            command = redact(self._request.command)
            record = build_record(self._conductor, self._preflight, standing, partial, command)
            write_report(record, self.path.parent)
            return record

    def leave(self, code: int, progress: Progress, home: RunHome) -> None:
        """The last act before the process ends by a signal."""
        self._conductor.spending.keep(force=True)
        try:
            self.write(Standing(), partial=True)
        finally:
            home.leave()
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


def settle_plan(plan: Plan, home: RunHome) -> None:
    """Write the resolved plan into the run; hold a resumed one to the plan it began with, but for budget and report.

    Raises:
        RunConflictError: something other than budget, report or storage differs.
    """
    path = home.folder / PLAN
    if path.exists():
        differences = plan.differences(parse_plan(path.read_text(encoding="utf-8"), str(path)))
        if differences:
            listed = "\n  ".join(differences)
            raise RunConflictError(
                f"{home.shown}: this run was begun with another plan:\n  {listed}\n"
                "A run goes on only with the plan it began with (its budget may change). Restore those values, give "
                "the new search a --name of its own, or start over with --fresh (the old run is set aside)."
            )
        if path.read_bytes() == plan.to_yaml().encode():
            return
    with storage_errors(path):
        replace_synced(path, plan.to_yaml().encode())
    home.keep(PLAN)
