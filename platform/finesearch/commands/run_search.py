"""``finesearch search``: runs or resumes a search; the only module that joins all layers of the package.

lock ─▶ plan.yaml ─▶ preflight ─▶ Ray ─▶ journal ─▶ controller ─▶ trials ─▶ final scores ─▶ report
"""

from __future__ import annotations

import contextlib
import functools
import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from finesearch.errors import FinesearchError, SearchError, StorageError
from finesearch.plan import Plan
from finesearch.report import RunRecord
from finesearch.run.build_record import FinalScores, lost_words
from finesearch.run.disk_check import check_disk
from finesearch.run.driver_metrics import DriverMetrics
from finesearch.run.final_scoring import compute_final_scores, load_final_scores, rescoring_settings_of
from finesearch.run.floor_scores.floor_process import FloorProcess
from finesearch.run.identity.begun_plan import RunChoices, read_begun_plan, read_choices, resumed_plan, write_plan
from finesearch.run.identity.run_identity import keep_identity
from finesearch.run.open_search import SearchRequest, open_search_controller
from finesearch.run.partial_report import PartialReporter
from finesearch.run.preflight import Preflight, run_preflight
from finesearch.run.progress import Progress, format_duration
from finesearch.run.ranked_json import write_ranking
from finesearch.run.remote_run import run_storage_of
from finesearch.run.run_storage import RANKED, SCORES, RunStorage
from finesearch.run.signals import exit_on_signals
from finesearch.storage.local_dirs import is_uploaded, on_this_node, results_home, uploaded_secrets
from finesearch.training.cost_model.cost_model import uses_prefix_cache
from finesearch.training.model.resolve_model import PACKAGE_SCHEME
from finesearch.tuning.cluster.capacity import GROUP_BYTES
from finesearch.tuning.cluster.shared_storage_check import check_shared_storage
from finesearch.tuning.cluster.trial_concurrency import ConcurrencyUpdater, initial_concurrency
from finesearch.tuning.connection.background_connect import BackgroundConnect
from finesearch.tuning.connection.connect import HUB_KEYS, STORAGE_KEYS, control_store_address
from finesearch.tuning.connection.control_store_watch import watched_control_store
from finesearch.tuning.controller.search_controller import Concurrency, SearchController
from finesearch.tuning.controller.trial_costs import TrialCosts
from finesearch.tuning.controller.trial_queue import SEARCH
from finesearch.tuning.workers.live_trials import read_live_trials
from finesearch.tuning.workers.node_precision import MeasuredNodes, measure_run_precision
from finesearch.tuning.workers.rescoring import StandbyScorer
from finesearch.tuning.workers.training_job_runner import TrainingJobRunner
from finesearch.tuning.workers.worker_group import GroupSettings

if TYPE_CHECKING:
    from finesearch.training.runtime.precision_benchmark import LayerShape


def run_search(request: SearchRequest, progress: Progress | None = None) -> RunRecord:
    """Run or resume a search to its end; returns the record, whose report is in ``reports/NAME``.

    Must be called from the main thread. SIGINT and SIGTERM end the process with 130 or 143 after a partial report.

    Raises:
        InputError: plan, data, model or cluster do not fit; nothing was started.
        StorageError: disk full or not writable; finished work is saved.
        SearchError: nothing could be ranked.
    """
    plan = request.plan
    progress = progress or Progress(plan)
    run_storage = run_storage_of(plan)
    if request.fresh:
        run_storage.archive()
    run_storage.prepare()
    with run_storage.locked(progress.say):
        begun = read_begun_plan(run_storage)
        if begun is not None:
            plan = resumed_plan(plan, begun, run_storage)
        if is_uploaded(Path.cwd()):
            progress.say(
                f"{plan.name}: this job runs in a copy of its directory that Ray deletes; runs and reports are"
            )
            progress.say(f"  kept below {results_home()} instead, unless --storage and --reports name other folders")
            progress.say("  (what .rayignore names, such as data/, did not travel: name it by a path that nodes reach)")
            if secrets := uploaded_secrets(Path.cwd()):
                progress.say(
                    f"  warning: files with keys travelled with this job: {', '.join(secrets[:5])}; whoever reads the "
                    "cluster's disks has them. Name them in .rayignore, and change those keys."
                )
        ray_connection = BackgroundConnect(plan.name, keys_of_workers(plan))
        if not (run_storage.folder / RANKED).exists():  # a run that was ranked before may need no Ray
            ray_connection.begin()
        try:
            progress.say(f"{plan.name}: reading data and model")
            preflight = run_preflight(plan, on_this_node(run_storage.cache), has_begun=begun is not None)
            choices = read_choices(run_storage)
            if begun is None:
                preflight, choices = _choose(preflight, ray_connection)
            else:
                preflight = replace(preflight, choices=choices.notes)
            keep_identity(preflight.plan, preflight, run_storage, has_begun=begun is not None)
            write_plan(preflight.plan, choices, run_storage)
            request = replace(request, plan=preflight.plan)
            for warning in (*preflight.notes, *preflight.warnings):
                progress.say(f"  note: {warning}")
            return _search(request, progress, run_storage, preflight, ray_connection)
        finally:
            ray_connection.end()


def keys_of_workers(plan: Plan) -> tuple[str, ...]:
    """How variables begin whose secrets the workers need: those of an object store, and of the hub."""
    is_local = plan.task.model.startswith(PACKAGE_SCHEME) or Path(plan.base, plan.task.model).expanduser().exists()
    return (*(STORAGE_KEYS if "://" in plan.storage else ()), *(() if is_local else HUB_KEYS))


def _choose(preflight: Preflight, ray_connection: BackgroundConnect) -> tuple[Preflight, RunChoices]:
    """Choose what the plan of a new run leaves to measurements on its nodes."""
    training = preflight.plan.training
    if training.precision != "auto":
        return preflight, RunChoices(preflight.choices)
    if os.environ.get("RAY_ADDRESS") or training.gpus_per_worker:
        ray_connection.wait()
    decision = measure_run_precision(training, _layer_shape(preflight))
    training = training.model_copy(update={"precision": decision.name})
    choices = RunChoices((*preflight.choices, decision.note), decision.nodes if decision.name == "bf16" else ())
    plan = preflight.plan.model_copy(update={"training": training})
    return replace(preflight, plan=plan, choices=choices.notes), choices


def _layer_shape(preflight: Preflight) -> LayerShape:
    from finesearch.training.runtime.precision_benchmark import LayerShape

    return LayerShape.of_model(preflight.model.dimensions.hidden_size, preflight.plan.training.batch_size)


def _search(
    request: SearchRequest,
    progress: Progress,
    run_storage: RunStorage,
    preflight: Preflight,
    ray_connection: BackgroundConnect,
) -> RunRecord:
    plan, folder = request.plan, run_storage.folder
    controller = open_search_controller(
        plan, run_storage, unsupported_baselines=preflight.unsupported_baselines, strong=preflight.strong
    )
    if controller.is_finished:
        final_scores, is_complete = load_final_scores(controller, preflight, run_storage)
        if is_complete:  # nothing to run and nothing to score: Ray is not needed
            reporter = PartialReporter(request, controller, preflight)
            record = reporter.write(final_scores, partial=False)
            write_ranking(run_storage, plan, record)
            return conclude(record, controller, reporter, progress)
    with contextlib.closing(FloorProcess(plan, preflight, folder / SCORES)) as floors:
        floors.start()
        controller.set_trial_costs(TrialCosts(plan, preflight.workload, uses_prefix_cache(plan.training)))
        ray_connection.wait()
        check_shared_storage(run_storage.store, lambda said: progress.say(f"{plan.name}: {said}"))
        capacity, concurrent = initial_concurrency(plan, preflight.sizes.worker_bytes, progress.say)
        check_disk(plan, folder, preflight.sizes.trained_bytes, concurrent)
        progress.say(
            f"{plan.name}: {capacity.describe()}; {concurrent} trial(s) at once; run folder {run_storage.shown}"
        )
        controller.set_concurrency(Concurrency(concurrent))
        lost = controller.delete_orphaned_checkpoints()
        if lost:
            progress.say(f"{plan.name}: {lost_words(lost)}")
        reporter, driver_metrics = PartialReporter(request, controller, preflight), DriverMetrics(controller)
        controller.usage.begin()
        with (
            run_storage.watched(controller.abort),
            exit_on_signals(lambda code: reporter.close_on_signal(code, progress, run_storage)),
            watched_control_store(control_store_address(), lambda why: reporter.close(why, progress, run_storage)),
        ):
            progress.start(controller, functools.partial(read_live_trials, plan.name))
            reporter.start()
            driver_metrics.start()
            try:
                standby = _execute(controller, preflight, run_storage, progress)
            except FinesearchError:
                with contextlib.suppress(StorageError):
                    reporter.write(FinalScores(), partial=True)
                raise
            finally:
                driver_metrics.stop()
                reporter.stop()
                progress.stop()
                controller.usage.persist(force=True)
            progress.say(f"{plan.name}: scoring the best checkpoints again, in clean processes")
            floors.finish(controller.usage.seconds)
            final_scores = compute_final_scores(controller, preflight, run_storage, standby)
            controller.usage.persist(force=True)
            record = reporter.write(final_scores, partial=False)
            write_ranking(run_storage, plan, record)
    return conclude(record, controller, reporter, progress)


def _execute(
    controller: SearchController, preflight: Preflight, run_storage: RunStorage, progress: Progress
) -> StandbyScorer | None:
    """Run the trials; returns a process for final scoring, if one could be prepared beside the last of them."""
    from finesearch.training.prefix_cache.cacheable_depth import cache_depths_of_space
    from finesearch.training.probing.probe_space_check import probe_layers_of
    from finesearch.tuning.observability.trackers import Tracking, make_trackers
    from finesearch.tuning.ray_tune.run_tuner import run_tuner

    plan, bf16_nodes = controller.plan, read_choices(run_storage).bf16_nodes
    goal = plan.objectives[0].goal
    runner = functools.partial(
        TrainingJobRunner,
        plan.task,
        plan.training,
        str(plan.base),
        run_storage.cache,
        plan.task.metric,
        goal,
        cache_depths=cache_depths_of_space(plan.space, preflight.model.num_layers),
        measured=MeasuredNodes(bf16_nodes, plan.training, _layer_shape(preflight)) if bf16_nodes else None,
        probe_layers=probe_layers_of(plan.space),
    )
    made: list[StandbyScorer] = []

    def make_ready() -> None:
        needed = 2 * (GROUP_BYTES + 2 * preflight.model.fp32_bytes)
        if not plan.training.gpus_per_worker and psutil.virtual_memory().available > needed:
            made.append(StandbyScorer(rescoring_settings_of(plan, run_storage)))

    callbacks = []
    if not controller.is_finished:
        if plan.tracking.is_enabled:
            callbacks.append(Tracking(controller, make_trackers(plan, run_storage.folder), progress.say))
        progress.say(f"{plan.name}: starting worker groups (about 10 s)")
    settings = GroupSettings(
        make_runner=runner,
        workers=plan.training.workers_per_trial,
        cpus_per_worker=plan.training.cpus_per_worker,
        gpus_per_worker=plan.training.gpus_per_worker,
        hang_timeout_s=plan.training.hang_timeout_s,
        fresh=plan.training.isolation == "fresh",
        run_name=plan.name,
        scratch=str(run_storage.folder / "scratch"),
    )
    with ConcurrencyUpdater(plan, preflight.sizes.worker_bytes, controller):
        run_tuner(controller, settings, make_ready, callbacks)
    return made[0] if made else None


def conclude(
    record: RunRecord, controller: SearchController, reporter: PartialReporter, progress: Progress
) -> RunRecord:
    """Print where the report is, or raise why there is nothing to rank."""
    from finesearch.report import verdict

    progress.say(f"{record.name}: {verdict(record).sentence}")
    progress.say(f"{record.name}: report in {reporter.path}; {format_duration(controller.usage.seconds)} in all")
    if not any(row.error is None for row in record.ranked):
        why = _why_unranked(record, controller)
        raise SearchError(f"{record.name}: no checkpoint could be ranked: {why}. See {reporter.path}.")
    return record


def _why_unranked(record: RunRecord, controller: SearchController) -> str:
    """What became of the trials, and why none of them is ranked."""
    counts = controller.journals[SEARCH].counts()
    became = [f"{count} {state}" for state, count in counts.items() if count]
    refused = next((f"{row.name}: {row.error}" for row in record.ranked if row.error), None)
    why = refused or controller.stop_reason or "no trial left a checkpoint"
    return f"{why} (trials: {', '.join(became) or 'none'})"
