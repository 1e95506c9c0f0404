"""How many of a model's lowest blocks give the same output in every step of a trial."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING

from finesearch.plan import Space
from finesearch.plan.space.frozen_layers import frozen_blocks
from finesearch.training.adaptations.adapt import ADAPTATIONS, Adapted
from finesearch.training.model.module_structure import Anatomy

if TYPE_CHECKING:
    from transformers import PreTrainedModel

MOST_VALUES = 64


@dataclass(frozen=True)
class Depth:
    """``blocks`` from the bottom do not change; ``why`` says what changes in the next one, or in all."""

    blocks: int
    why: str


def depth_of(model: PreTrainedModel, anatomy: Anatomy, adaptation: str, adapted: Adapted) -> Depth:
    """The depth of an adapted model, embeddings and what runs between blocks taken into account."""
    if not anatomy.blocks:
        return Depth(0, "its layers share one block")
    if ADAPTATIONS[adaptation].changes_input:
        return Depth(0, f"{adaptation} changes what the first layer gets")
    if adapted.unfreezing is not None:
        return Depth(0, "frozen layers join the training as it goes on")
    quiet = set(adapted.quiet.subtrees)
    if anatomy.backbone and anatomy.backbone in quiet:
        return Depth(len(anatomy.blocks), "")
    if not quiet.issuperset(anatomy.bottom(0)):
        return Depth(0, "the embeddings train, or dropout is on in them")
    for index, block in enumerate(anatomy.blocks):
        if index and _changes(model, _between(anatomy, index), quiet):
            return Depth(index, f"what runs above layer {index} trains")
        if block not in quiet:
            return Depth(index, f"layer {index + 1} trains")
    return Depth(len(anatomy.blocks), "")


def _between(anatomy: Anatomy, stage: int) -> list[str]:
    return [name for name, at in anatomy.stages.items() if at == stage]


def _changes(model: PreTrainedModel, modules: Collection[str], quiet: set[str]) -> bool:
    return any(name not in quiet and any(True for _ in model.get_submodule(name).parameters()) for name in modules)


def cuts_of_space(space: Space, num_layers: int) -> tuple[int, ...]:
    """The cuts that a space can ask for, deepest first; those of patterns are known only once the model is there.

    num_layers: blocks of the model.
    """
    cuts: set[int] = set()
    for name, domains in space.selectors["adaptation"].items():
        values = domains["layers"].grid[:MOST_VALUES] if "layers" in domains else (None,)
        for value in values:
            cuts.add(frozen_blocks(name, {} if value is None else {"layers": value}, num_layers))
    return tuple(sorted(cuts - {0}, reverse=True))
