"""Sets up one attempt at a trial, resumes it where there is something to resume, and takes everything down again."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from finesearch.errors import CheckpointError
from finesearch.plan.checks.zero_limits import refuse_partitioned
from finesearch.storage import atomic_dirs
from finesearch.storage.atomic_files import replace_synced
from finesearch.training.adaptations.adapt import Adapted, adapt
from finesearch.training.checkpoints import checkpoint_layout
from finesearch.training.checkpoints.checkpoint_store import Shelf
from finesearch.training.checkpoints.checkpoint_writer import WEIGHTS, CheckpointWriter
from finesearch.training.checkpoints.preemption_state import IsLeaving
from finesearch.training.checkpoints.resume_point import Remains, at_hand, find_remains
from finesearch.training.loop.training_loop import TrialRun, steps_per_epoch
from finesearch.training.metric_history import Yardstick
from finesearch.training.model.base_model import overlay
from finesearch.training.model.layer_depths import check_depths, parameter_depths
from finesearch.training.prefix_cache.open_cache import open_prefix
from finesearch.training.prompting import trains
from finesearch.training.prompting.run_prompt_trial import run_asking
from finesearch.training.regularizers.active_regularizers import attach
from finesearch.training.regularizers.weight_average import RAW
from finesearch.training.runtime.deepspeed_engine import EngineSettings, running_engine
from finesearch.training.runtime.distributed import Processes
from finesearch.training.runtime.heartbeat import alive
from finesearch.training.runtime.malloc import freed_pages_kept
from finesearch.training.runtime.precision import choose_precision, compute_in, move
from finesearch.training.steps.optimizers import build_optimizer
from finesearch.training.steps.train_step import Learner
from finesearch.training.trial_types import Evaluation, TrialResult, TrialSpec

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel

    from finesearch.plan import TrainingPlan
    from finesearch.training.task_context import Materials

Report = Callable[[Evaluation], bool]


@dataclass(frozen=True)
class Reports:
    """Whom to tell of an evaluation: of one that training may go on after, and of the one that a trial ends with."""

    go_on_after: Report
    last: Report


def run_attempt(
    materials: Materials,
    training: TrainingPlan,
    yardstick: Yardstick,
    spec: TrialSpec,
    processes: Processes,
    reports: Reports,
    beat: Callable[[], None],
    is_leaving: IsLeaving | None,
    shelf: Shelf,
) -> TrialResult:
    """See ``Workbench.run``; ``spec.directory`` is the folder of the ``shelf``."""
    refuse_partitioned(spec.recipe, training.zero_stage)
    with alive(beat):
        remains = at_hand(processes.first_does(lambda: find_remains(spec, shelf)), shelf)
    history = remains.record.history if remains.record else ()
    if remains.result is not None:
        done = remains.result
        goes_on = processes.first_does(lambda: _replay(done.history[:-1], reports.go_on_after))
        return _told(done, processes, reports) if goes_on else done.model_copy(update={"stopped": True})
    if history and not processes.first_does(lambda: _replay(history, reports.go_on_after)):
        return _stopped_in_replay(remains, history, yardstick)
    if not trains(spec.recipe.adaptation):
        asked = run_asking(materials, training, yardstick, spec, processes, beat)
        return _ended(asked, spec, shelf, processes, reports)
    # What was only asked must not take the memory that training needs.
    materials.asked.clear()
    with alive(beat):
        model, adapted, warnings = build_model(materials, training, spec, processes, remains)
    regularizers = attach(model, materials.base, spec.recipe, spec.seed, processes.rank)
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
    optimizer = build_optimizer(model, spec.recipe, depths_of(model, materials, spec, adapted))
    is_untouched = remains.record is None
    prefix = open_prefix(
        materials, training, spec.recipe, model, adapted, precision.name, processes, beat, is_untouched
    )
    with closing(prefix), freed_pages_kept(), running_engine(model, optimizer, settings, processes) as engine:
        tokens, steps = materials.tokens.train, settings.accumulation_steps
        smoothing = spec.recipe.label_smoothing
        weights, weight_warnings = _class_weights(materials, spec)
        learner = Learner(
            engine,
            materials.task,
            materials.base,
            tokens,
            processes,
            steps,
            smoothing,
            regularizers,
            weights,
            prefix.of("train"),
            training.max_tokens_per_pass,
        )
        writer = CheckpointWriter(shelf, spec.attempt, processes, engine, model, materials.tokenizer_files)
        run = TrialRun(
            spec,
            training,
            materials,
            yardstick,
            learner,
            writer,
            precision.name,
            *totals,
            adapted.unfreezing,
            prefix.of("validation"),
        )
        if remains.paused is not None:
            run.go_on_from_pause(history, remains.kept, remains.paused)
        elif history:
            run.go_on_from(history, remains.kept)
        ended = run.train(reports.go_on_after, beat, is_leaving)
        told = (
            *remains.warnings,
            *warnings,
            *weight_warnings,
            *regularizers.warnings,
            *precision.warnings,
            *run.warnings,
        )
        result = _result(run, told, (*precision.notes, *prefix.notes), stopped=not ended)
    return _ended(result, spec, shelf, processes, reports) if ended else result


def _ended(result: TrialResult, spec: TrialSpec, shelf: Shelf, processes: Processes, reports: Reports) -> TrialResult:
    """Write down the result of a trial that is over, then report its last evaluation."""
    processes.first_does(lambda: _finish(shelf, result, spec.attempt))
    return _told(result, processes, reports)


def _told(result: TrialResult, processes: Processes, reports: Reports) -> TrialResult:
    stopped = not processes.first_does(lambda: reports.last(result.history[-1]))
    return result.model_copy(update={"stopped": stopped})


def build_model(
    materials: Materials, training: TrainingPlan, spec: TrialSpec, processes: Processes, remains: Remains
) -> tuple[PreTrainedModel, Adapted, tuple[str, ...]]:
    """The trial's model, adapted, with the weights of the checkpoint to go on from if there is one; and warnings."""
    from safetensors.torch import load_file

    base, recipe = materials.base, spec.recipe
    # ZeRO 3 cuts up every parameter, frozen ones too.
    model, warnings = base.build(recipe, spec.seed, shares=training.zero_stage < 3)
    steps = steps_per_epoch(materials, spec) * recipe.epochs
    adapted = adapt(model, base.anatomy, recipe.adaptation, recipe.adaptation_parameters, base.fresh, steps, spec.seed)
    base.part(model)
    if remains.record is not None:
        record = remains.record
        same = processes.first_does(lambda: record.base.sha256 == materials.base_reference.sha256)
        if not same:
            raise CheckpointError(
                f"{spec.directory}: the checkpoint was trained from a base model with SHA-256 "
                f"{record.base.sha256[:12]}…, and {materials.base.folder} now holds another. "
                f"Put the old one back, or start a run under a new name."
            )
        checkpoint = remains.folder
        overlay(model, load_file(checkpoint / WEIGHTS))
        if (raw := checkpoint / checkpoint_layout.RESUME / RAW).is_file():
            overlay(model, load_file(raw))
    return model, adapted, (*warnings, *adapted.notes)


def depths_of(
    model: PreTrainedModel, materials: Materials, spec: TrialSpec, adapted: Adapted
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
    return parameter_depths(model, materials.base.anatomy, materials.base.fresh)


def _class_weights(materials: Materials, spec: TrialSpec) -> tuple[Tensor | None, tuple[str, ...]]:
    """The weights (C,) of the classes where the recipe wants them balanced; and warnings."""
    if spec.recipe.class_weights == "none":
        return None, ()
    import torch

    weights = materials.task.class_weights(materials.tokens.train.column("labels"), materials.facts)
    if weights is None:
        return None, (f"class_weights balanced has no effect: {materials.task.kind} has no classes to weigh.",)
    return torch.tensor(weights, dtype=torch.float32), ()


def _replay(history: tuple[Evaluation, ...], report: Report) -> bool:
    return all(report(evaluation) for evaluation in history)


def _stopped_in_replay(remains: Remains, history: tuple[Evaluation, ...], yardstick: Yardstick) -> TrialResult:
    best = yardstick.best(tuple(evaluation for evaluation in history if evaluation.step in remains.kept))
    return TrialResult(
        stopped=True,
        best=best,
        history=history,
        checkpoint=None,  # see _result
        trainable_parameters=remains.record.trainable_parameters if remains.record else 0,
        total_parameters=remains.record.total_parameters if remains.record else 0,
        seconds=history[-1].seconds,
        tokens=history[-1].tokens,
        checkpoint_bytes=0,
        warnings=remains.warnings,
    )


def _result(run: TrialRun, warnings: tuple[str, ...], notes: tuple[str, ...], stopped: bool) -> TrialResult:
    best = run.best
    # Whoever stops a trial owns its folder from then on, and may have deleted it already.
    checkpoint = run.keeping.kept.get(best.step) if best and not stopped else None
    size = run.writer.processes.first_does(lambda: atomic_dirs.listed_bytes(checkpoint) if checkpoint else 0)
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


def _finish(shelf: Shelf, result: TrialResult, attempt: int) -> None:
    """Write down the result, and keep only what can still be wanted of a trial that is over."""
    directory = shelf.folder
    checkpoint = Path(result.checkpoint) if result.checkpoint else None
    shelf.finish(result.model_dump_json(indent=1).encode(), checkpoint, attempt)
    checkpoint_layout.refuse_if_superseded(directory, attempt)
    with atomic_dirs.disk_full_is_told(directory):
        replace_synced(directory / checkpoint_layout.RESULT, result.model_dump_json(indent=1).encode())
    checkpoint_layout.remove_all_but(directory, {checkpoint} if checkpoint else set(), attempt)
    checkpoint_layout.drop_resume_state(directory)


def _count(model: Any) -> tuple[int, int]:
    """Trained and all parameters of the model, before ZeRO-3 cuts them up."""
    sizes = [(parameter.numel(), parameter.requires_grad) for parameter in model.parameters()]
    return sum(size for size, trained in sizes if trained), sum(size for size, _ in sizes)
