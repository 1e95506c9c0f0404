"""Frozen parts of a model run without dropout, even after ``model.train()``.

A part is a unit of freezing: everything before the first block, each block, and the modules between two blocks.
Under ``norms_only`` something trains in every part, and dropout stays on everywhere.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from finesearch.training.model.module_structure import ModuleStructure

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@dataclass(frozen=True)
class FrozenDropout:
    """Modules in eval mode: ``subtrees`` with everything in them, ``alone`` without their children."""

    subtrees: tuple[str, ...] = ()
    alone: tuple[str, ...] = ()


def find_frozen_dropout(model: PreTrainedModel, structure: ModuleStructure, trained: Collection[str]) -> FrozenDropout:
    """The modules that run without dropout when only the parameters named ``trained`` train."""
    # A container such as BART's encoder applies dropout to the (frozen) embeddings in its own forward, so its dropout
    # is frozen with them.
    if structure.backbone and not _any_below((structure.backbone,), trained):
        return FrozenDropout((structure.backbone,), structure.containers)
    subtrees: list[str] = []
    alone: tuple[str, ...] = ()
    for modules, decisive in _parts(model, structure):
        if modules and not _any_below(decisive, trained):
            subtrees += modules
            if modules == structure.bottom(0):
                alone = structure.containers
    return FrozenDropout(tuple(subtrees), alone)


def _parts(model: PreTrainedModel, structure: ModuleStructure) -> Iterator[tuple[tuple[str, ...], tuple[str, ...]]]:
    """Each part's modules, and the modules whose parameters decide whether anything trains in it."""
    yield structure.bottom(0), structure.bottom(0)
    for block in structure.blocks:
        yield (block,), (block,)
    for stage in sorted(set(structure.stages.values()) - {0}):
        between = tuple(name for name, at in structure.stages.items() if at == stage)
        if any(True for name in between for _ in model.get_submodule(name).parameters()):
            yield between, between
        else:
            # Without own parameters, it belongs to the block above it, or to the whole model.
            yield between, structure.blocks[stage : stage + 1] or (structure.backbone,)


def _any_below(modules: Collection[str], trained: Collection[str]) -> bool:
    prefixes = tuple(f"{module}." if module else "" for module in modules)
    return any(name.startswith(prefixes) for name in trained)


def apply_frozen_dropout(model: PreTrainedModel, frozen_dropout: Callable[[], FrozenDropout]) -> None:
    """Make ``model.train()`` leave the modules of ``frozen_dropout()`` in eval mode."""
    train = model.train

    def train_all_but_quiet(mode: bool = True) -> PreTrainedModel:
        train(mode)
        now = frozen_dropout()
        for name in now.subtrees:
            model.get_submodule(name).eval()
        for name in now.alone:
            model.get_submodule(name).training = False
        return model

    # Patched on the instance: the class name is written into the checkpoint's config and must stay the same.
    model.train = train_all_but_quiet  # type: ignore[method-assign]
    model.train(model.training)
