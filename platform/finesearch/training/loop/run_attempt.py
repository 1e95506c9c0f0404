"""Sets up one attempt at a trial, resumes it where there is something to resume, and takes everything down again."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from finesearch.errors import CheckpointError
from finesearch.plan.checks.zero_limits import require_zero_stage_support
from finesearch.storage import atomic_dirs
from finesearch.storage.atomic_files import replace_synced
from finesearch.training.adaptations.adapt import AdaptationResult, adapt
from finesearch.training.checkpoints import checkpoint_layout
from finesearch.training.checkpoints.checkpoint_store import CheckpointStore
from finesearch.training.checkpoints.checkpoint_writer import WEIGHTS, CheckpointWriter
from finesearch.training.checkpoints.preemption_state import PreemptionCheck
from finesearch.training.checkpoints.resume_point import ResumePoint, fetch_resume_point, find_resume_point
from finesearch.training.loop.training_loop import TrainingLoop, steps_per_epoch
from finesearch.training.metric_history import RankingMetric
from finesearch.training.model.base_model import overlay
from finesearch.training.model.layer_depths import check_depths, parameter_depths
from finesearch.training.prefix_cache.open_cache import open_prefix_cache
from finesearch.training.prompting import trains
from finesearch.training.prompting.run_prompt_trial import run_prompt_trial
from finesearch.training.regularizers.active_regularizers import attach
from finesearch.training.regularizers.weight_average import RAW
from finesearch.training.runtime.deepspeed_engine import EngineSettings, running_engine
from finesearch.training.runtime.distributed import Processes
from finesearch.training.runtime.heartbeat import heartbeat
from finesearch.training.runtime.malloc import keep_freed_pages
from finesearch.training.runtime.precision import choose_precision, compute_in, move
from finesearch.training.steps.optimizers import build_optimizer
from finesearch.training.steps.train_step import TrainStep
from finesearch.training.trial_types import Evaluation, TrialResult, TrialSpec

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel

    from finesearch.plan import TrainingPlan
    from finesearch.training.task_context import TaskContext

Report = Callable[[Evaluation], bool]


@dataclass(frozen=True)
class ReportCallbacks:
    """Whom to tell of an evaluation: of one that training may go on after, and of the one that a trial ends with."""

    intermediate: Report
    last: Report


def run_attempt(
    context: TaskContext,
    training: TrainingPlan,
    ranking_metric: RankingMetric,
    spec: TrialSpec,
    processes: Processes,
    reports: ReportCallbacks,
    beat: Callable[[], None],
    is_preemption_pending: PreemptionCheck | None,
    store: CheckpointStore,
) -> TrialResult:
    """See ``TrialRunner.run``; ``spec.directory`` is the folder of the ``store``."""
    require_zero_stage_support(spec.recipe, training.zero_stage)
    with heartbeat(beat):
        resume_point = fetch_resume_point(processes.run_on_rank_zero(lambda: find_resume_point(spec, store)), store)
    history = resume_point.record.history if resume_point.record else ()
    if resume_point.result is not None:
        done = resume_point.result
        goes_on = processes.run_on_rank_zero(lambda: _replay(done.history[:-1], reports.intermediate))
        return _told(done, processes, reports) if goes_on else done.model_copy(update={"stopped": True})
    if history and not processes.run_on_rank_zero(lambda: _replay(history, reports.intermediate)):
        return _stopped_in_replay(resume_point, history, ranking_metric)
    if not trains(spec.recipe.adaptation):
        asked = run_prompt_trial(context, training, ranking_metric, spec, processes, beat)
        return _finish_and_report(asked, spec, store, processes, reports)
    # What was only asked must not take the memory that training needs.
    context.asked.clear()
    with heartbeat(beat):
        model, adapted, warnings = build_model(context, training, spec, processes, resume_point)
    regularizers = attach(model, context.base, spec.recipe, spec.seed, processes.rank)
    precision = choose_precision(training.precision, processes.device)
    compute_in(model, precision.name, processes.device)
    totals = _count(model)
    move(model, processes.device)
    pieces = processes.world_size * training.gradient_accumulation_steps
    settings = EngineSettings(
        zero_stage=training.zero_stage,
        micro_batch_size=max(1, spec.recipe.batch_size // pieces),
        accumulation_steps=training.gradient_accumulation_steps,
        gradient_clipping=spec.recipe.gradient_clipping,
    )
    optimizer = build_optimizer(model, spec.recipe, depths_of(model, context, spec, adapted))
    is_untouched = resume_point.record is None
    prefix = open_prefix_cache(
        context, training, spec.recipe, model, adapted, precision.name, processes, beat, is_untouched
    )
    with closing(prefix), keep_freed_pages(), running_engine(model, optimizer, settings, processes) as engine:
        tokens, steps = context.tokens.train, settings.accumulation_steps
        smoothing = spec.recipe.label_smoothing
        weights, weight_warnings = _class_weights(context, spec)
        train_step = TrainStep(
            engine,
            context.task,
            context.base,
            tokens,
            processes,
            steps,
            smoothing,
            regularizers,
            weights,
            prefix.of("train"),
            training.max_tokens_per_pass,
        )
        writer = CheckpointWriter(store, spec.attempt, processes, engine, model, context.tokenizer_files)
        run = TrainingLoop(
            spec,
            training,
            context,
            ranking_metric,
            train_step,
            writer,
            precision.name,
            *totals,
            adapted.unfreezing,
            prefix.of("validation"),
        )
        if resume_point.paused is not None:
            run.resume_from_preemption(history, resume_point.kept, resume_point.paused)
        elif history:
            run.resume_from(history, resume_point.kept)
        ended = run.train(reports.intermediate, beat, is_preemption_pending)
        told = (
            *resume_point.warnings,
            *warnings,
            *weight_warnings,
            *regularizers.warnings,
            *precision.warnings,
            *run.warnings,
        )
        result = _result(run, told, (*precision.notes, *prefix.notes), stopped=not ended)
    return _finish_and_report(result, spec, store, processes, reports) if ended else result


def _finish_and_report(
    result: TrialResult, spec: TrialSpec, store: CheckpointStore, processes: Processes, reports: ReportCallbacks
) -> TrialResult:
    """Write down the result of a trial that is over, then report its last evaluation."""
    processes.run_on_rank_zero(lambda: _finish(store, result, spec.attempt))
    return _told(result, processes, reports)


def _told(result: TrialResult, processes: Processes, reports: ReportCallbacks) -> TrialResult:
    stopped = not processes.run_on_rank_zero(lambda: reports.last(result.history[-1]))
    return result.model_copy(update={"stopped": stopped})


def build_model(
    context: TaskContext, training: TrainingPlan, spec: TrialSpec, processes: Processes, resume_point: ResumePoint
) -> tuple[PreTrainedModel, AdaptationResult, tuple[str, ...]]:
    """The trial's model, adapted, with the weights of the checkpoint to go on from if there is one; and warnings."""
    from safetensors.torch import load_file

    base, recipe = context.base, spec.recipe
    # ZeRO 3 cuts up every parameter, frozen ones too.
    model, warnings = base.build(recipe, spec.seed, shares=training.zero_stage < 3)
    steps = steps_per_epoch(context, spec) * recipe.epochs
    adapted = adapt(
        model, base.structure, recipe.adaptation, recipe.adaptation_parameters, base.fresh, steps, spec.seed
    )
    base.unshare_trained(model)
    if resume_point.record is not None:
        record = resume_point.record
        same = processes.run_on_rank_zero(lambda: record.base.sha256 == context.base_reference.sha256)
        if not same:
            raise CheckpointError(
                f"{spec.directory}: the checkpoint was trained from a base model with SHA-256 "
                f"{record.base.sha256[:12]}…, and {context.base.folder} now holds another. "
                f"Put the old one back, or start a run under a new name."
            )
        checkpoint = resume_point.folder
        overlay(model, load_file(checkpoint / WEIGHTS))
        if (raw := checkpoint / checkpoint_layout.RESUME / RAW).is_file():
            overlay(model, load_file(raw))
    return model, adapted, (*warnings, *adapted.notes)


def depths_of(
    model: PreTrainedModel, context: TaskContext, spec: TrialSpec, adapted: AdaptationResult
) -> Mapping[str, int] | None:
    """Depth of each parameter, where the recipe asks for it.

    Raises:
        ModelError: it does, and the model's layers share one block.
    """
    if adapted.unfreezing is not None:
        return adapted.unfreezing.depths
    if spec.recipe.layerwise_decay == 1.0:
        return None
    check_depths("layerwise_decay", model)
    return parameter_depths(model, context.base.structure, context.base.fresh)


def _class_weights(context: TaskContext, spec: TrialSpec) -> tuple[Tensor | None, tuple[str, ...]]:
    """The weights (C,) of the classes where the recipe wants them balanced; and warnings."""
    if spec.recipe.class_weights == "none":
        return None, ()
    import torch

    weights = context.task.class_weights(context.tokens.train.column("labels"), context.facts)
    if weights is None:
        return None, (f"class_weights balanced has no effect: {context.task.kind} has no classes to weigh.",)
    return torch.tensor(weights, dtype=torch.float32), ()


def _replay(history: tuple[Evaluation, ...], report: Report) -> bool:
    return all(report(evaluation) for evaluation in history)


def _stopped_in_replay(
    resume_point: ResumePoint, history: tuple[Evaluation, ...], ranking_metric: RankingMetric
) -> TrialResult:
    best = ranking_metric.best(tuple(evaluation for evaluation in history if evaluation.step in resume_point.kept))
    return TrialResult(
        stopped=True,
        best=best,
        history=history,
        checkpoint=None,  # see _result
        trainable_parameters=resume_point.record.trainable_parameters if resume_point.record else 0,
        total_parameters=resume_point.record.total_parameters if resume_point.record else 0,
        seconds=history[-1].seconds,
        tokens=history[-1].tokens,
        checkpoint_bytes=0,
        warnings=resume_point.warnings,
    )


def _result(run: TrainingLoop, warnings: tuple[str, ...], notes: tuple[str, ...], stopped: bool) -> TrialResult:
    best = run.best
    # Whoever stops a trial owns its folder from then on, and may have deleted it already.
    checkpoint = run.checkpoint_policy.kept.get(best.step) if best and not stopped else None
    size = run.writer.processes.run_on_rank_zero(lambda: atomic_dirs.listed_bytes(checkpoint) if checkpoint else 0)
    return TrialResult(
        stopped=stopped,
        best=best,
        history=run.history,
        checkpoint=str(checkpoint) if checkpoint else None,
        trainable_parameters=run.trainable_parameters,
        total_parameters=run.total_parameters,
        seconds=run.history[-1].seconds,
        tokens=run.history[-1].tokens,
        checkpoint_bytes=size,
        warnings=warnings,
        notes=notes,
    )


def _finish(store: CheckpointStore, result: TrialResult, attempt: int) -> None:
    """Write down the result, and keep only what can still be wanted of a trial that is over."""
    directory = store.folder
    checkpoint = Path(result.checkpoint) if result.checkpoint else None
    store.finish(result.model_dump_json(indent=1).encode(), checkpoint, attempt)
    checkpoint_layout.refuse_if_superseded(directory, attempt)
    with atomic_dirs.disk_full_as_error(directory):
        replace_synced(directory / checkpoint_layout.RESULT, result.model_dump_json(indent=1).encode())
    checkpoint_layout.remove_all_but(directory, {checkpoint} if checkpoint else set(), attempt)
    checkpoint_layout.drop_resume_state(directory)


def _count(model: Any) -> tuple[int, int]:
    """Trained and all parameters of the model, before ZeRO-3 cuts them up."""
    sizes = [(parameter.numel(), parameter.requires_grad) for parameter in model.parameters()]
    return sum(size for size, trained in sizes if trained), sum(size for size, _ in sizes)
