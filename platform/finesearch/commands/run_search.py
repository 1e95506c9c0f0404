"""run_search(plan): the one place where the floors meet.

lock ─▶ plan.yaml ─▶ preflight ─▶ Ray ─▶ journal ─▶ conductor ─▶ trials ─▶ final scores ─▶ report
"""

from __future__ import annotations

import contextlib
import functools
from pathlib import Path

import psutil

from finesearch.errors import FinesearchError, SearchError, StorageError
from finesearch.report import RunRecord
from finesearch.run.build_record import Standing
from finesearch.run.disk_check import check_disk
from finesearch.run.driver_metrics import Watching
from finesearch.run.final_scoring import kept_standing, rescoring_of, score_standing
from finesearch.run.open_search import Request, open_conductor
from finesearch.run.partial_report import Reporter
from finesearch.run.preflight import Preflight, inspect
from finesearch.run.progress import Progress, duration
from finesearch.run.ranked_json import write_ranking
from finesearch.run.resume_check import settle_plan
from finesearch.run.run_storage import RANKED, RunHome, home_of
from finesearch.run.signals import leave_cleanly
from finesearch.storage.local_dirs import is_uploaded, on_this_node, results_home
from finesearch.training.cost_model.cost_model import keeps_prefixes
from finesearch.training.cost_model.workload import measure_workload
from finesearch.tuning.cluster.background_connect import RayBeside
from finesearch.tuning.cluster.connect import GROUP_BYTES
from finesearch.tuning.cluster.shared_storage_check import check_reach
from finesearch.tuning.cluster.trial_concurrency import Following, make_room
from finesearch.tuning.controller.search_controller import Conductor
from finesearch.tuning.controller.trial_costs import TrialCosts
from finesearch.tuning.workers.rescoring import Standby
from finesearch.tuning.workers.training_job_runner import TrainingBench
from finesearch.tuning.workers.worker_group import GroupSettings


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
    check_reach(home.storage, lambda said: progress.say(f"{plan.name}: {said}"))
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


def _execute(conductor: Conductor, preflight: Preflight, home: RunHome, progress: Progress) -> Standby | None:
    """Run the trials; a process for final scoring where one could be made ready beside the last of them."""
    from finesearch.training.prefix_cache.cacheable_depth import cuts_of_space
    from finesearch.tuning.observability.trackers import Tracking, make_trackers
    from finesearch.tuning.ray_tune.run_tuner import execute

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
        needed = 2 * (GROUP_BYTES + 2 * preflight.model.bytes_in_training)
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
