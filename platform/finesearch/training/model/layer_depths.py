"""Layer depth of each parameter, counted from the top: used by layer-wise learning rates and gradual unfreezing."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

from finesearch.errors import ModelError
from finesearch.training.model.module_structure import ModuleStructure, block_lists

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def check_depths(option: str, model: PreTrainedModel) -> None:
    """Check that the model has separate layers, which ``option`` needs.

    Raises:
        ModelError: the layers share one block.
    """
    if not block_lists(model):
        raise ModelError(
            f"{option}: {type(model).__name__} shares one block among all of its layers, so that none is deeper than "
            f"another. Leave {option} out, or choose a model of another architecture."
        )


def parameter_depths(model: PreTrainedModel, structure: ModuleStructure, fresh: Collection[str]) -> dict[str, int]:
    """Parameter name -> depth.

    0 is the head and everything that the base model did not have (``fresh``); 1 the top block and all that runs after;
    ``n`` the lowest of ``n`` blocks; ``n + 1`` the embeddings. What runs between two blocks belongs to the lower one.
    """
    blocks = len(structure.blocks)
    places = {f"{block}.": blocks - index for index, block in enumerate(structure.blocks)}
    places |= {f"{name}.": blocks + 1 - stage for name, stage in structure.stages.items()}
    prefix = f"{structure.backbone}." if structure.backbone else ""

    def depth(name: str) -> int:
        if name in fresh or not name.startswith(prefix):
            return 0
        return next((deep for place, deep in places.items() if name.startswith(place)), 1)

    return {name: depth(name) for name, _ in model.named_parameters()}
