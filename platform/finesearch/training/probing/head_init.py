"""A trial that starts from a solved output layer: linear probing, then fine-tuning.

Kumar, Raghunathan, Jones, Ma and Liang, Fine-Tuning can Distort Pretrained Features and Underperform
Out-of-Distribution, 2022. The layer is solved on the inputs that it gets in the trial's own model before any step,
whatever the head: layers under it that the base model lacks are as the trial's seed draws them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from finesearch.errors import ModelError
from finesearch.training.probing.feature_store import FeatureRequest, open_features, wanted_layers
from finesearch.training.probing.layer_cut import num_layers
from finesearch.training.probing.output_layer import LinearHead
from finesearch.training.probing.probe_units import has_probe
from finesearch.training.probing.solutions import AUTO, solve
from finesearch.training.runtime.precision import choose_precision

if TYPE_CHECKING:
    from finesearch.training.attempt import Attempt


@dataclass(frozen=True, eq=False)
class HeadStart:
    """The output layer that a trial starts from (None: as it is drawn), and what the report says about it."""

    head: LinearHead | None = None
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


def solve_head_start(attempt: Attempt) -> HeadStart:
    """The solved output layer for an attempt's model, the same on every rank; rank 0 computes and solves.

    Raises:
        ModelError: the task or the model has no output layer that can be solved. DivergedError: what it gets is not
            finite.
    """
    return attempt.processes.run_long_on_rank_zero(lambda: _solve(attempt))


def _solve(attempt: Attempt) -> HeadStart:
    context, recipe = attempt.context, attempt.recipe
    if not has_probe(context.task):
        raise ModelError(f"head_init: {context.task.kind} has no output layer that can be solved. Use random.")
    layer = num_layers(attempt.base.config)
    request = FeatureRequest(
        context=context,
        base=attempt.base,
        recipe=recipe,
        layers=wanted_layers(context, attempt.base, layer),
        seed=attempt.spec.seed,
        precision=choose_precision(attempt.training.precision, attempt.processes.device).name,
        processes=attempt.processes,
        beat=attempt.callbacks.beat,
    )
    if request.depends_on_seed:
        request = replace(request, layers=(layer,), owner=(attempt.spec.number, attempt.spec.attempt))
    is_balanced = recipe.class_weights == "balanced"
    with open_features(request, layer) as features:
        solved = solve(
            context.task, context.facts, features, layer, request.output, regularization=AUTO, is_balanced=is_balanced
        )
        # A strength that differs from trial to trial would be a line of the report for each.
        known = f"the regularization {solved.regularization:.2g},"
        strength = "a regularization" if request.depends_on_seed else known
        notes = [
            f"head_init probe: the output layer ({request.output.name}) starts as solved on what it gets before any "
            f"step, with {strength} chosen by the loss on validation."
        ]
        if request.drawn:
            notes.append(
                f"head_init probe: parameters under the output layer start at random ({request.drawn_names}), so "
                f"that each trial solves its own."
            )
        if set(request.output.parameters) - attempt.base.fresh:
            notes.append("head_init probe: the output layer that the model's folder holds is replaced by a solved one.")
        if features.is_drawn:
            notes.append(drawn_note(features.train_units.counts.size, features.num_train_rows))
    return HeadStart(solved.head, tuple(notes), tuple(f"head_init: {problem}" for problem in solved.problems))


def drawn_note(rows: int, of: int) -> str:
    """What the report says where a probe was solved on a part of train."""
    return f"A probe was solved on {rows} of {of} token rows of train, drawn at random: more do not fit into memory."
