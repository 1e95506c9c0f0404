"""Which parameters of a recipe's model do not start from the base's weights, and settings of them without effect."""

from __future__ import annotations

from typing import TYPE_CHECKING

from finesearch.plan.space.branches import ADAPTATIONS
from finesearch.plan.space.frozen_layers import num_frozen_blocks
from finesearch.training.adaptations.adaptation import task_head
from finesearch.training.heads.pooled_head import pooled_head

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from finesearch.plan import Recipe
    from finesearch.training.model.base_model import PretrainedBase


def head_names(model: PreTrainedModel, base: PretrainedBase) -> frozenset[str]:
    """Parameters that ``head_learning_rate`` is for: a task's output layer, and what the base did not have."""
    return (base.fresh - base.reinitialized) | task_head(model)


def reinitialized_layers(recipe: Recipe, blocks: int) -> int:
    """How many of a model's top ``blocks`` start from random weights: at most those that the recipe trains."""
    if "reinit_top_layers" in ADAPTATIONS[recipe.adaptation].without_effect:
        return 0
    frozen = num_frozen_blocks(recipe.adaptation, recipe.adaptation_parameters, blocks)
    return min(recipe.reinit_top_layers, blocks - frozen)


def head_warnings(recipe: Recipe, base: PretrainedBase, head: frozenset[str]) -> tuple[str, ...]:
    """A sentence for each setting of the recipe that has no effect, or less than it says."""
    found, blocks = [], len(base.structure.blocks)
    size, factor, wanted = recipe.head_hidden_size, recipe.head_learning_rate, recipe.reinit_top_layers
    pooled = pooled_head(base.config)
    if size is not None and (pooled is None or pooled.hidden_size != size):
        found.append(f"head_hidden_size {size} has no effect: the architecture's own head has no such layer.")
    if factor != 1.0 and not head:
        found.append(f"head_learning_rate {factor:g} has no effect: the model had all of its weights before.")
    layers = reinitialized_layers(recipe, blocks)
    if layers < wanted:
        found.append(
            f"reinit_top_layers {wanted}: {layers} of {blocks} layers start from random weights, since "
            f"{recipe.adaptation} trains no more of them as a whole."
        )
    return tuple(found)
