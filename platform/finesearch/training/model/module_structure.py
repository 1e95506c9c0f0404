"""Locates a model's embeddings, transformer blocks and head from the model itself, without a list of architectures.

Blocks are the elements of the ``ModuleList`` (or lists, encoder before decoder) whose length the config calls its
number of layers. Every other module in the backbone is placed by running one tiny example and recording how many blocks
had run when the module was first used. Module order would mislead: DeBERTa's relative-position embeddings and their
norm come after the blocks in the module tree, and feed every block.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor, nn
    from transformers import PreTrainedModel

HELD = "held_by_base"
"""Attribute of a parameter: the base's matrix in bf16 that it gets once it is known whether it trains."""
# Names under which configs keep the length of a list of blocks; aliases such as GPT-2's n_layer are mapped by
# transformers.
LAYER_COUNTS = ("num_hidden_layers", "encoder_layers", "decoder_layers", "num_layers", "num_decoder_layers")


@dataclass(frozen=True)
class ModuleStructure:
    """Module names of one architecture, relative to the whole model.

    backbone: the part under the task's head; "" where the model has no separate head.
    blocks: in the order in which they run.
    stages: module outside the blocks, inside the backbone -> number of blocks that had run before it, or 0 for
        embeddings.
    containers: modules around the blocks (the backbone among them), innermost last.
    """

    backbone: str
    blocks: tuple[str, ...]
    stages: Mapping[str, int]
    containers: tuple[str, ...]

    def bottom(self, blocks: int) -> tuple[str, ...]:
        """Names of the modules of the embeddings and of the lowest ``blocks`` blocks.

        Modules that run between two blocks belong to the lower part once the block above them does.
        """
        outside = (name for name, stage in self.stages.items() if stage == 0 or stage < blocks)
        return (*outside, *self.blocks[:blocks])


def block_lists(model: PreTrainedModel) -> dict[str, nn.ModuleList]:
    """The lists of blocks by name, outermost ones only; empty where layers share one block (ALBERT)."""
    from torch import nn

    config = model.config.get_text_config() if hasattr(model.config, "get_text_config") else model.config
    counts = {getattr(config, name, None) for name in LAYER_COUNTS} - {None}
    counts |= {getattr(model.config, name, None) for name in LAYER_COUNTS} - {None}
    found: dict[str, nn.ModuleList] = {}
    for name, module in model.base_model.named_modules():
        nested = any(name.startswith(f"{outer}.") for outer in found)
        if isinstance(module, nn.ModuleList) and len(module) in counts and not nested:
            found[name] = module
    prefix = backbone_prefix(model)
    return {f"{prefix}{name}": module for name, module in found.items()}


def backbone_prefix(model: PreTrainedModel) -> str:
    """``"bert."`` for a BERT with a head, ``""`` for a bare backbone."""
    return "" if model.base_model is model else f"{model.base_model_prefix}."


def num_blocks(model: PreTrainedModel) -> int:
    """How many blocks can be frozen from the bottom: those of encoder and decoder together."""
    return sum(len(blocks) for blocks in block_lists(model).values())


def trace_structure(model: PreTrainedModel, example: Mapping[str, Tensor]) -> ModuleStructure:
    """Run ``example`` (one row as the tokenizer returns it) once without gradients and record the order of modules."""
    import torch

    lists = block_lists(model)
    blocks = {f"{name}.{index}": block for name, members in lists.items() for index, block in enumerate(members)}
    prefix = backbone_prefix(model)
    order: list[str] = []
    stages: dict[str, int] = {}
    handles: list[Any] = []

    # A hook that returns something would replace the module's input with it.
    def note_block(name: str) -> Any:
        def hook(*_: Any) -> None:
            if name not in order:
                order.append(name)

        return hook

    def note_module(name: str) -> Any:
        def hook(*_: Any) -> None:
            stages.setdefault(name, len(order))

        return hook

    for name, block in blocks.items():
        handles.append(block.register_forward_pre_hook(note_block(name)))
    for name, module in _outside(model, prefix, blocks):
        handles.append(module.register_forward_pre_hook(note_module(name)))
    was_training = model.training
    try:
        model.train(False)
        with torch.no_grad():
            model(**example)
    finally:
        model.train(was_training)
        for handle in handles:
            handle.remove()
    # Tables that are read without being called (DeBERTa's relative positions) feed the blocks like any embedding.
    for name, module in _outside(model, prefix, blocks):
        if isinstance(module, torch.nn.Embedding):
            stages[name] = 0
    if not blocks:
        stages = {name: 0 for name in _embedding_parts(model, prefix)}
    return ModuleStructure(prefix.rstrip("."), tuple(order), stages, _containers(lists, prefix))


def _outside(model: PreTrainedModel, prefix: str, blocks: Mapping[str, nn.Module]) -> Iterator[tuple[str, nn.Module]]:
    """Modules of the backbone outside its blocks that compute something: leaves, and owners of parameters."""
    for name, module in model.named_modules():
        within = any(name == block or name.startswith(f"{block}.") for block in blocks)
        around = any(block.startswith(f"{name}.") for block in blocks)
        if within or around or not name.startswith(prefix):
            continue
        is_leaf = next(module.children(), None) is None
        if name and (is_leaf or any(True for _ in module.parameters(recurse=False))):
            yield name, module


def _embedding_parts(model: PreTrainedModel, prefix: str) -> Iterator[str]:
    """Embedding tables and their sibling modules, for a model whose layers share one block."""
    from torch import nn

    tables = [
        name for name, module in model.named_modules() if isinstance(module, nn.Embedding) and name.startswith(prefix)
    ]
    for owner in dict.fromkeys(name.rpartition(".")[0] for name in tables):
        if f"{owner}." == prefix:
            yield from (name for name in tables if name.rpartition(".")[0] == owner)
        else:
            yield from (f"{owner}.{name}" for name, _ in model.get_submodule(owner).named_children())


def _containers(lists: Mapping[str, nn.ModuleList], prefix: str) -> tuple[str, ...]:
    names: dict[str, None] = {}
    for name in lists:
        parts = name.split(".")[:-1]
        for depth in range(len(parts)):
            names[".".join(parts[: depth + 1])] = None
    return tuple(name for name in names if f"{name}.".startswith(prefix))


def ending_in(endings: Iterable[str], names: Iterable[str]) -> list[str]:
    """Those names that are one of ``endings``, or end in one after a dot.

    >>> ending_in(["output.dense"], ["layer.0.output.dense", "layer.0.intermediate.dense"])
    ['layer.0.output.dense']
    """
    suffixes = tuple(f".{ending}" for ending in endings)
    return [name for name in names if f".{name}".endswith(suffixes)]
