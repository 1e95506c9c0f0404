"""Activation checkpointing: of each block only the input is kept for the backward pass, and the rest computed again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from finesearch.errors import ModelError
from finesearch.plan.checks.checkpointing_limits import excluding_part
from finesearch.training.cost_model.memory_forecast import AUTO_FROM
from finesearch.training.model.dimensions import count_parameters

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from finesearch.plan import Recipe

AUTO_NOTE = (
    f"activation_checkpointing auto: on, as for every model from {AUTO_FROM / 1e9:g} G parameters on; each block is "
    "computed again in the backward pass."
)


def checkpoint_activations(model: PreTrainedModel, recipe: Recipe, wanted: str) -> bool:
    """Switch it on, if ``training.activation_checkpointing`` and the recipe want it; whether it is.

    Chen, Xu, Zhang and Guestrin, Training Deep Nets with Sublinear Memory Cost, 2016. The same dropout masks are drawn
    again, so that losses and gradients are the same to the last bit.

    Raises:
        ModelError: ``on``, and the architecture has no blocks that can be computed again.
    """
    large = count_parameters(model).total >= AUTO_FROM
    if wanted == "off" or (wanted == "auto" and (not large or excluding_part(recipe) is not None)):
        return False
    if not model.supports_gradient_checkpointing:
        if wanted == "auto":
            return False
        raise no_such_blocks(type(model).__name__)
    how: dict[str, Any] = {"use_reentrant": False}
    model.activation_checkpointing_enable(activation_checkpointing_kwargs=how)
    return True


def no_such_blocks(architecture: str) -> ModelError:
    return ModelError(
        f"training.activation_checkpointing: {architecture} has no blocks that can be computed again. Set it to off."
    )
