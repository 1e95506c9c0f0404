"""One trial of ``linear_probe``, from its parameters to its checkpoint: an ordinary model with a solved head."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

from finesearch.errors import DivergedError
from finesearch.storage import checksummed_dirs
from finesearch.training.checkpointing import checkpoint_layout
from finesearch.training.checkpointing.checkpoint_writer import WEIGHTS
from finesearch.training.model.dimensions import ParameterCounts, count_parameters
from finesearch.training.probing.feature_store import FeatureRequest, LayerFeatures, open_features, wanted_layers
from finesearch.training.probing.head_init import drawn_note
from finesearch.training.probing.layer_cut import cut_base, num_layers
from finesearch.training.probing.output_layer import make_linear, set_output_layer
from finesearch.training.probing.probe_units import predict_units
from finesearch.training.probing.solutions import AUTO, solve
from finesearch.training.probing.strength_path import SolvedProbe
from finesearch.training.runtime.heartbeat import heartbeat
from finesearch.training.runtime.precision import choose_precision
from finesearch.training.steps.evaluate import ScoringOptions, score_predictions
from finesearch.training.trial_types import Evaluation, ScoredPredictions, TrialResult

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from finesearch.training.attempt import Attempt
    from finesearch.training.checkpointing.checkpoint_record import CheckpointRecord
    from finesearch.training.model.base_model import PretrainedBase

STEP = 1
SEED = 0
"""Of parameters that the base lacks: the same in all trials, so that they share features."""


def run_probe_trial(attempt: Attempt) -> TrialResult:
    """Solve the head on rank 0, and write the checkpoint; the result has one evaluation, not yet reported.

    Raises:
        ModelError: the model has no output layer that can be solved. DivergedError: its outputs are not finite.
    """
    # Prompted models must not occupy the memory that features and their solution need.
    attempt.context.prompt_models.clear()
    with heartbeat(attempt.callbacks.beat):
        return attempt.processes.run_long_on_rank_zero(lambda: _run(attempt))


def _run(attempt: Attempt) -> TrialResult:
    began = time.perf_counter()
    context, recipe, base = attempt.context, attempt.recipe, attempt.base
    precision = choose_precision(attempt.training.precision, attempt.processes.device)
    layer = recipe.adaptation_parameters["layer"] or num_layers(base.config)
    request = FeatureRequest(
        context=context,
        base=base,
        recipe=recipe,
        layers=wanted_layers(context, base, layer),
        seed=SEED,
        precision=precision.name,
        processes=attempt.processes,
        beat=attempt.callbacks.beat,
    )
    regularization, is_balanced = recipe.adaptation_parameters["regularization"], recipe.class_weights == "balanced"
    with open_features(request, layer) as features:
        solved = solve(
            context.task,
            context.facts,
            features,
            layer,
            request.output,
            regularization=regularization,
            is_balanced=is_balanced,
        )
        scored = _score(attempt, features, solved, precision.name)
        notes = _notes(request, layer, regularization, solved, features)
    cut = cut_base(base, layer)
    model = _solved_model(attempt, cut, solved)
    parameters = ParameterCounts(
        trainable=sum(model.get_parameter(name).numel() for name in request.output.parameters),
        total=count_parameters(model).total,
    )
    evaluation = Evaluation(
        step=STEP,
        epoch=0.0,
        metrics=scored.metrics,
        train_loss=None,
        seconds=time.perf_counter() - began,
        tokens=0,
        trainable_parameters=parameters.trainable,
        decision=scored.decision,
    )
    record = attempt.checkpoint_record(
        history=(evaluation,),
        trained=tuple(sorted(cut.fresh | set(request.output.parameters))),
        parameters=parameters,
        zero_stage=0,
        precision=precision.name,
    )
    path = _write(attempt, record, model)
    return TrialResult(
        stopped=False,
        best=evaluation,
        history=(evaluation,),
        checkpoint=str(path),
        trainable_parameters=parameters.trainable,
        total_parameters=parameters.total,
        seconds=evaluation.seconds,
        tokens=0,
        checkpoint_bytes=checksummed_dirs.listed_bytes(path),
        warnings=(*precision.warnings, *_warnings(attempt, solved)),
        notes=(*precision.notes, *notes),
    )


def _score(attempt: Attempt, features: LayerFeatures, solved: SolvedProbe, precision: str) -> ScoredPredictions:
    """Validation scored from its features, in the run's precision."""
    context, metric = attempt.context, attempt.ranking_metric.metric
    layer = make_linear(solved.head, attempt.processes.device)
    try:
        by_row = dict(predict_units(context.task, features.validation_units, features.validation, layer, precision))
    except FloatingPointError as error:
        raise DivergedError(
            f"trial {attempt.spec.number}: the outputs of the solved layer are NaN or infinite on validation. Use "
            f"precision fp32, or another layer."
        ) from error
    scoring = ScoringOptions(calibrate=True, metric=metric)
    return score_predictions(context.task, attempt.base, context.tokens.validation, by_row, scoring)


def _solved_model(attempt: Attempt, base: PretrainedBase, solved: SolvedProbe) -> PreTrainedModel:
    model, _ = base.build(attempt.recipe, SEED, shares=True)
    set_output_layer(model, solved.head)
    model.requires_grad_(False)
    base.place_weights(model)
    return model


def _warnings(attempt: Attempt, solved: SolvedProbe) -> tuple[str, ...]:
    context, found = attempt.context, [f"linear_probe: {problem}" for problem in solved.problems]
    is_weighed = attempt.recipe.class_weights == "none" or context.task.class_weights(
        context.tokens.train.column("labels"), context.facts
    )
    if not is_weighed:
        found.append(f"class_weights balanced has no effect: {context.task.kind} has no classes to weigh.")
    return tuple(found)


def _notes(
    request: FeatureRequest, layer: int, wanted: str | float, solved: SolvedProbe, features: LayerFeatures
) -> tuple[str, ...]:
    notes = []
    if wanted == AUTO:
        notes.append(
            f"linear_probe, layer {layer}: regularization auto is {solved.regularization:.2g}, which has the lowest "
            f"loss on validation."
        )
    if request.drawn:
        notes.append(
            f"linear_probe: the base model lacks parameters under the output layer ({request.drawn_names}); they "
            f"stay as they are drawn, the same in every trial."
        )
    if features.is_drawn:
        notes.append(drawn_note(features.train_units.counts.size, features.num_train_rows))
    return tuple(notes)


def _write(attempt: Attempt, record: CheckpointRecord, model: PreTrainedModel) -> Path:
    from safetensors.torch import save_file

    spec = attempt.spec
    directory = Path(spec.directory)
    temporary = checkpoint_layout.temporary_folder(directory, STEP, spec.attempt)
    with checkpoint_layout.discarded_on_failure(temporary):
        checkpoint_layout.begin(directory, STEP, spec.attempt, with_resume=False)
        model.config.architectures = [type(model).__name__]
        model.config.save_pretrained(temporary)
        for name, content in attempt.context.tokenizer_files.items():
            (temporary / name).write_bytes(content)
        tensors = {name: model.get_parameter(name).detach().contiguous() for name in record.trained}
        save_file(tensors, temporary / WEIGHTS, metadata={"format": "pt"})
        record.write(temporary)
        return checkpoint_layout.complete(temporary, STEP, spec.attempt).path
