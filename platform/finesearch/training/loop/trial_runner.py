"""A warm worker's trial runner: keeps data and base model loaded, and runs trials one after another."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from finesearch.plan import TaskPlan, TrainingPlan
from finesearch.plan.space.branches import BASE_WEIGHTS
from finesearch.training.metric_history import RankingMetric
from finesearch.training.runtime.heartbeat import heartbeat
from finesearch.training.runtime.torch_threads import torch_threads
from finesearch.training.trial_types import Evaluation, StepProgress, TrialResult, TrialSpec

if TYPE_CHECKING:
    from finesearch.training.task_context import TaskContext


class TrialRunner:
    """Runs trial after trial of one task in one process; made of plain, picklable arguments.

    Data, tokens, tokenizer and base weights are read once, for the first trial. Trials do not affect one another:
    random state, modules and memory are restored after each.

    base: folder that relative paths of ``task`` are relative to. cache: folder for tokens, shared by a node's workers.
    metric, goal (``max`` or ``min``): the ranking of evaluations. cache_depths: numbers of frozen bottom layers that
    trials may request of the prefix cache. probe_layers: layers that trials may probe; None is the last.
    """

    def __init__(
        self,
        task: TaskPlan,
        training: TrainingPlan,
        base: str,
        cache: str,
        metric: str,
        goal: str,
        *,
        cache_depths: tuple[int, ...] = (),
        probe_layers: tuple[int | None, ...] = (),
    ) -> None:
        self.task_plan = task
        self.training = training
        self.base = base
        self.cache = cache
        self.ranking_metric = RankingMetric(metric, goal)
        self.cache_depths = cache_depths
        self.probe_layers = probe_layers
        self._is_settled = False
        self._first_base_weights = "auto"

    def run(
        self,
        spec: TrialSpec,
        report: Callable[[Evaluation], bool],
        beat: Callable[[], None],
        is_preemption_pending: Callable[[], bool] | None = None,
        report_last: Callable[[Evaluation], bool] | None = None,
        on_step: Callable[[StepProgress], None] | None = None,
    ) -> TrialResult:
        """Train one trial, or resume it, and return its result.

        Every rank of the trial's process group calls this with an equal ``spec``; a single process needs no group. On
        rank 0 ``report`` is called with each evaluation, after its checkpoint is durable if one is written, and returns
        False to stop the trial; it may be called from another thread, while training continues. Evaluations of earlier
        attempts are reported again first. ``beat`` is the heartbeat: called after each optimizer step, and each second
        during other work, partly from another thread. All ranks call ``is_preemption_pending`` together; once it
        returns True, the trial's state is written. A trial's last evaluation goes to ``report_last``, if given: no
        training waits for its answer. ``on_step`` is told how far the trial is, after each optimizer step.

        Raises:
            Preempted: the trial was preempted, and another attempt can resume it.
            DivergedError, DiskFullError, CheckpointError, TrialError: agreed on, so raised by every rank.
            PlacementError, DataError, ModelError: the plan cannot be carried out here.
        """
        # Imported here, because driver processes create runners only to send them to workers.
        from finesearch.training.attempt import Attempt, TrialCallbacks
        from finesearch.training.checkpointing.checkpoint_store import open_checkpoint_store
        from finesearch.training.loop.run_attempt import run_attempt
        from finesearch.training.runtime.deepspeed_engine import freeze_gc, release_memory
        from finesearch.training.runtime.distributed import join_process_group
        from finesearch.training.runtime.seeding import isolated_rng_state

        if "_context" not in vars(self):
            # The first trial's weights are read, not those of the folder and then them.
            self._first_base_weights = spec.recipe.adaptation_parameters.get(BASE_WEIGHTS, "auto")
        with heartbeat(beat):
            self._prepare()
            context = self._context
        processes = join_process_group(self.training.gpus_per_worker, self.training.workers_per_trial)
        try:
            with torch_threads(self.training.cpus_per_worker), isolated_rng_state(spec.seed):
                with open_checkpoint_store(spec.directory) as store:
                    attempt = Attempt(
                        spec=spec.model_copy(update={"directory": str(store.folder)}),
                        training=self.training,
                        ranking_metric=self.ranking_metric,
                        context=context,
                        processes=processes,
                        store=store,
                        callbacks=TrialCallbacks(report, report_last or report, beat, is_preemption_pending, on_step),
                    )
                    result = run_attempt(attempt)
                if result.checkpoint is None:
                    return result
                return result.model_copy(update={"checkpoint": store.address(result.checkpoint)})
        finally:
            release_memory()
            if not self._is_settled:
                freeze_gc()
                self._is_settled = True

    def _prepare(self) -> None:
        import torch

        from finesearch.training.model.resolve_model import model_folder
        from finesearch.training.runtime.deepspeed_engine import import_deepspeed, prepare_imports
        from finesearch.training.runtime.malloc import choose_pages
        from finesearch.training.runtime.seeding import enable_determinism
        from finesearch.training.weights.weight_files import weight_files

        device = torch.device("cuda" if self.training.gpus_per_worker > 0 else "cpu")
        if not self._is_settled:
            folder = model_folder(self.task_plan.model, self.task_plan.revision, Path(self.base))
            choose_pages(sum(path.stat().st_size for path in weight_files(folder)))
        prepare_imports(device)
        import_deepspeed()
        enable_determinism(device)

    @cached_property
    def _context(self) -> TaskContext:
        from finesearch.training.task_context import load_task_context

        return load_task_context(
            self.task_plan,
            Path(self.base),
            Path(self.cache),
            self.cache_depths,
            self.probe_layers,
            precision=self.training.precision,
            base_weights=self._first_base_weights,
        )
