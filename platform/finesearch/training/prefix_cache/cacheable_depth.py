"""Cacheable depth: how many of a model's lowest blocks return the same output in every step of a trial."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING

from finesearch.plan import Space
from finesearch.plan.space.frozen_layers import num_frozen_blocks
from finesearch.training.adaptations.adapt import ADAPTATIONS, AdaptationResult
from finesearch.training.model.module_structure import ModuleStructure

if TYPE_CHECKING:
    from transformers import PreTrainedModel

MOST_VALUES = 64


@dataclass(frozen=True)
class FrozenDepth:
    """The lowest ``blocks`` blocks do not change; ``why`` says what changes in the next one, or in all."""

    blocks: int
    why: str


def find_frozen_depth(
    model: PreTrainedModel, structure: ModuleStructure, adaptation: str, adapted: AdaptationResult
) -> FrozenDepth:
    """The frozen depth of an adapted model, including its embeddings and the modules between blocks."""
    if not structure.blocks:
        return FrozenDepth(0, "its layers share one block")
    if ADAPTATIONS[adaptation].changes_input:
        return FrozenDepth(0, f"{adaptation} changes what the first layer gets")
    if adapted.unfreezing is not None:
        return FrozenDepth(0, "frozen layers join the training as it goes on")
    frozen_dropout = set(adapted.frozen_dropout.subtrees)
    if structure.backbone and structure.backbone in frozen_dropout:
        return FrozenDepth(len(structure.blocks), "")
    if not frozen_dropout.issuperset(structure.bottom(0)):
        return FrozenDepth(0, "the embeddings train, or dropout is on in them")
    for index, block in enumerate(structure.blocks):
        if index and _changes(model, _between(structure, index), frozen_dropout):
            return FrozenDepth(index, f"what runs above layer {index} trains")
        if block not in frozen_dropout:
            return FrozenDepth(index, f"layer {index + 1} trains")
    return FrozenDepth(len(structure.blocks), "")


def _between(structure: ModuleStructure, stage: int) -> list[str]:
    return [name for name, at in structure.stages.items() if at == stage]


def _changes(model: PreTrainedModel, modules: Collection[str], frozen_dropout: set[str]) -> bool:
    return any(
        name not in frozen_dropout and any(True for _ in model.get_submodule(name).parameters()) for name in modules
    )


def cache_depths_of_space(space: Space, num_layers: int) -> tuple[int, ...]:
    """Depths that a search space can request, deepest first, except those of ``pattern``, which need the model.

    num_layers: blocks of the model.
    """
    cache_depths: set[int] = set()
    for name, domains in space.selectors["adaptation"].items():
        values = domains["layers"].grid[:MOST_VALUES] if "layers" in domains else (None,)
        for value in values:
            cache_depths.add(num_frozen_blocks(name, {} if value is None else {"layers": value}, num_layers))
    return tuple(sorted(cache_depths - {0}, reverse=True))
