"""Runs one attempt at a trial: setup, resume from a checkpoint if there is one, training, result, teardown."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from finesearch.errors import CheckpointError
from finesearch.plan import ADAPTATIONS
from finesearch.plan.checks.zero_limits import require_zero_stage_support
from finesearch.storage import checksummed_dirs
from finesearch.storage.atomic_files import replace_synced
from finesearch.training.adaptations.adapt import AdaptationResult, adapt
from finesearch.training.attempt import Attempt, Report
from finesearch.training.checkpointing import checkpoint_layout
from finesearch.training.checkpointing.checkpoint_store import CheckpointStore
from finesearch.training.checkpointing.checkpoint_writer import WEIGHTS, CheckpointWriter
from finesearch.training.checkpointing.resume_point import ResumePoint, as_begun, fetch_resume_point, find_resume_point
from finesearch.training.heads.head_parameters import head_names, head_warnings
from finesearch.training.heads.recipe_base import check_head
from finesearch.training.loop.training_loop import TrainingLoop
from finesearch.training.metric_history import RankingMetric
from finesearch.training.model.activation_checkpointing import AUTO_NOTE, checkpoint_activations
from finesearch.training.model.base_model import overlay
from finesearch.training.model.dimensions import count_parameters
from finesearch.training.model.layer_depths import check_depths, parameter_depths
from finesearch.training.prefix_cache.open_cache import open_prefix_cache
from finesearch.training.probing.head_init import HeadStart, solve_head_start
from finesearch.training.probing.output_layer import set_output_layer
from finesearch.training.probing.run_probe_trial import run_probe_trial
from finesearch.training.prompting.run_prompt_trial import run_prompt_trial
from finesearch.training.regularizers.active_regularizers import attach
from finesearch.training.regularizers.weight_average import RAW
from finesearch.training.runtime.deepspeed_engine import EngineSettings, running_engine
from finesearch.training.runtime.heartbeat import heartbeat
from finesearch.training.runtime.malloc import trial_memory
from finesearch.training.runtime.precision import choose_precision, compute_in, move
from finesearch.training.steps.optimizer_steps import OptimizerSteps
from finesearch.training.steps.optimizers import build_optimizer
from finesearch.training.steps.train_step import TrainStep
from finesearch.training.trial_types import Evaluation, TrialResult
from finesearch.training.weights.quantization import base_weights_of

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel


def run_attempt(attempt: Attempt) -> TrialResult:
    """See ``TrialRunner.run``."""
    spec, processes, report = attempt.spec, attempt.processes, attempt.callbacks.report
    require_zero_stage_support(spec.recipe, attempt.training.zero_stage)
    with heartbeat(attempt.callbacks.beat):
        found = processes.run_long_on_rank_zero(lambda: find_resume_point(spec, attempt.store))
        resume_point = fetch_resume_point(found, attempt.store)
    if resume_point.record is not None:
        recipe = as_begun(spec.recipe, resume_point.record.recipe)
        attempt = replace(attempt, spec=spec.model_copy(update={"recipe": recipe}))
    if resume_point.result is not None:
        done = resume_point.result
        continues = processes.run_on_rank_zero(lambda: _replay(done.history[:-1], report))
        return _report_last(attempt, done) if continues else done.model_copy(update={"stopped": True})
    history = resume_point.record.history if resume_point.record else ()
    if history and not processes.run_on_rank_zero(lambda: _replay(history, report)):
        return _stopped_in_replay(resume_point, history, attempt.ranking_metric)
    result = _run(attempt, resume_point)
    if result.stopped:
        return result
    processes.run_on_rank_zero(lambda: _finish(attempt.store, result, spec.attempt))
    return _report_last(attempt, result)


def _run(attempt: Attempt, resume_point: ResumePoint) -> TrialResult:
    branch = ADAPTATIONS[attempt.recipe.adaptation]
    if branch.trains:
        return _train(attempt, resume_point)
    return run_prompt_trial(attempt) if branch.is_prompted else run_probe_trial(attempt)


def _train(attempt: Attempt, resume_point: ResumePoint) -> TrialResult:
    """Train, from the resume point if there is one; the last evaluation of a finished trial is not reported here."""
    context, training, processes, recipe = attempt.context, attempt.training, attempt.processes, attempt.recipe
    # Prompted models must not occupy the memory that training needs.
    context.prompt_models.clear()
    with heartbeat(attempt.callbacks.beat):
        starts_anew = resume_point.record is None
        start = solve_head_start(attempt) if starts_anew and recipe.head_init == "probe" else HeadStart()
        model, adapted, warnings = build_model(attempt, resume_point, start)
    regularizers = attach(model, attempt.base, recipe, attempt.spec.seed, processes.rank)
    precision = choose_precision(_wanted_precision(attempt), processes.device)
    compute_in(model, precision.name, processes.device)
    parameters = count_parameters(model)
    move(model, processes.device)
    pieces = processes.world_size * training.gradient_accumulation_steps
    settings = EngineSettings(
        zero_stage=training.zero_stage,
        micro_batch_size=max(1, recipe.batch_size // pieces),
        accumulation_steps=training.gradient_accumulation_steps,
        gradient_clipping=recipe.gradient_clipping,
    )
    head = head_names(model, attempt.base)
    optimizer = build_optimizer(model, recipe, depths_of(attempt, model, adapted), head)
    prefix = open_prefix_cache(attempt, model, adapted, precision.name, is_untouched=resume_point.record is None)
    with (
        closing(prefix),
        trial_memory(),
        running_engine(model, optimizer, settings, processes) as engine,
    ):
        weights, weight_warnings = _class_weights(attempt)
        train_step = TrainStep(attempt, engine, regularizers, weights, prefix.of("train"))
        run = TrainingLoop(
            attempt=attempt,
            steps=OptimizerSteps(attempt, train_step, adapted.unfreezing),
            writer=CheckpointWriter(
                attempt.store, attempt.spec.attempt, processes, engine, model, context.tokenizer_files
            ),
            precision=precision.name,
            parameters=parameters,
            cached_outputs=prefix.of("validation"),
        )
        history = resume_point.record.history if resume_point.record else ()
        if resume_point.paused is not None:
            run.resume_from_preemption(history, resume_point.kept, resume_point.paused)
        elif history:
            run.resume_from(history, resume_point.kept)
        else:
            run.checkpoint_policy.kept = dict(resume_point.kept)
        ended = run.train()
        told = (
            *resume_point.warnings,
            *warnings,
            *start.warnings,
            *weight_warnings,
            *regularizers.warnings,
            *precision.warnings,
            *run.warnings,
        )
        return _result(run, told, (*start.notes, *precision.notes, *prefix.notes), stopped=not ended)


def _wanted_precision(attempt: Attempt) -> str:
    """The run's; a trial whose base is to be in bf16 computes in it."""
    return "bf16" if base_weights_of(attempt.recipe) == "bf16" else attempt.training.precision


def _report_last(attempt: Attempt, result: TrialResult) -> TrialResult:
    """Report the trial's last evaluation, after its result was written."""
    stopped = not attempt.processes.run_on_rank_zero(lambda: attempt.callbacks.report_last(result.history[-1]))
    return result.model_copy(update={"stopped": stopped})


def build_model(
    attempt: Attempt, resume_point: ResumePoint, start: HeadStart
) -> tuple[PreTrainedModel, AdaptationResult, tuple[str, ...]]:
    """The trial's adapted model, with the weights of the checkpoint to resume from, if there is one; and warnings.

    start: the output layer of a trial that does not resume, where it is not drawn.
    """
    from safetensors.torch import load_file

    context, recipe, seed = attempt.context, attempt.recipe, attempt.spec.seed
    base = attempt.base
    # ZeRO 3 partitions every parameter, frozen ones too.
    model, warnings = base.build(recipe, seed, shares=attempt.training.zero_stage < 3)
    if start.head is not None:
        set_output_layer(model, start.head)
    name, settings = recipe.adaptation, recipe.adaptation_parameters
    adapted = adapt(model, base.structure, name, settings, base.fresh, steps=attempt.steps, seed=seed)
    base.place_weights(model)
    wanted = attempt.training.activation_checkpointing
    if checkpoint_activations(model, recipe, wanted) and wanted == "auto":
        warnings += (AUTO_NOTE,)
    if resume_point.record is not None:
        record = resume_point.record
        same = attempt.processes.run_on_rank_zero(lambda: record.base.sha256 == context.base_reference.sha256)
        if not same:
            raise CheckpointError(
                f"{attempt.spec.directory}: the checkpoint was trained from a base model with SHA-256 "
                f"{record.base.sha256[:12]}…, and {base.folder} now holds another. "
                f"Put the old one back, or start a run under a new name."
            )
        checkpoint = resume_point.folder
        check_head(checkpoint, base)
        overlay(model, load_file(checkpoint / WEIGHTS))
        if (raw := checkpoint / checkpoint_layout.RESUME / RAW).is_file():
            overlay(model, load_file(raw))
    return model, adapted, (*warnings, *adapted.notes, *head_warnings(recipe, base, head_names(model, base)))


def depths_of(attempt: Attempt, model: PreTrainedModel, adapted: AdaptationResult) -> Mapping[str, int] | None:
    """Layer depth of each parameter, if the recipe needs it.

    Raises:
        ModelError: the recipe needs it, and the model's layers share one block.
    """
    if adapted.unfreezing is not None:
        return adapted.unfreezing.depths
    if attempt.recipe.layerwise_decay == 1.0:
        return None
    check_depths("layerwise_decay", model)
    return parameter_depths(model, attempt.base.structure, attempt.base.fresh - attempt.base.reinitialized)


def _class_weights(attempt: Attempt) -> tuple[Tensor | None, tuple[str, ...]]:
    """Class weights (C,), if the recipe balances the classes; and warnings."""
    if attempt.recipe.class_weights == "none":
        return None, ()
    import torch

    context = attempt.context
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
    # The process that stops a trial owns its folder from then on, and may already have deleted it.
    checkpoint = run.checkpoint_policy.kept.get(best.step) if best and not stopped else None
    size = run.attempt.processes.run_on_rank_zero(
        lambda: checksummed_dirs.listed_bytes(checkpoint) if checkpoint else 0
    )
    return TrialResult(
        stopped=stopped,
        best=best,
        history=run.history,
        checkpoint=str(checkpoint) if checkpoint else None,
        trainable_parameters=run.parameters.trainable,
        total_parameters=run.parameters.total,
        seconds=run.history[-1].seconds,
        tokens=run.history[-1].tokens,
        checkpoint_bytes=size,
        warnings=warnings,
        notes=notes,
    )


def _finish(store: CheckpointStore, result: TrialResult, attempt: int) -> None:
    """Write the result, and delete what a finished trial no longer needs."""
    directory = store.folder
    checkpoint = Path(result.checkpoint) if result.checkpoint else None
    store.finish(result.model_dump_json(indent=1).encode(), checkpoint, attempt)
    checkpoint_layout.refuse_if_superseded(directory, attempt)
    with checksummed_dirs.disk_full_as_error(directory):
        replace_synced(directory / checkpoint_layout.RESULT, result.model_dump_json(indent=1).encode())
    checkpoint_layout.remove_all_but(directory, {checkpoint} if checkpoint else set(), attempt)
    checkpoint_layout.drop_resume_state(directory)
