"""How large a model's parts are that cost something: its blocks, its embeddings, its output layer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from finesearch.training.model.module_structure import block_lists
from finesearch.training.trial_types import FrozenRecord

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedModel


class StackDimensions(FrozenRecord):
    """Blocks that the same tokens run through; ``weights`` are the numbers in the matrices of one block."""

    blocks: int
    weights: int


class Dimensions(FrozenRecord):
    """Sizes of one model.

    ``stacks``: an encoder's before a decoder's. ``embedding_weights`` are looked up and not multiplied;
    ``output_weights`` are those of a language model's output layer, which every token is multiplied with (0: none).
    """

    stacks: tuple[StackDimensions, ...] = ()
    hidden_size: int = 0
    embedding_weights: int = 0
    output_weights: int = 0

    @property
    def blocks(self) -> int:
        return sum(stack.blocks for stack in self.stacks)


class ParameterCounts(FrozenRecord):
    """Numbers of a model's parameters: those that train, and all."""

    trainable: int
    total: int


def count_parameters(model: nn.Module) -> ParameterCounts:
    """The counts of a model that ZeRO-3 has not cut up."""
    sizes = [(parameter.numel(), parameter.requires_grad) for parameter in model.parameters()]
    return ParameterCounts(
        trainable=sum(size for size, trained in sizes if trained), total=sum(size for size, _ in sizes)
    )


def dimensions_of(model: PreTrainedModel) -> Dimensions:
    """Sizes of a model, whose weights need not be there (meta device)."""
    from torch import nn

    tables = {id(module.weight): module.weight for module in model.modules() if isinstance(module, nn.Embedding)}
    output = model.get_output_embeddings()  # type: ignore[no-untyped-call]
    config = model.config.get_text_config()
    width = getattr(config, "hidden_size", None) or next(iter(tables.values())).shape[-1]
    lists = block_lists(model)
    if lists:
        stacks = tuple(
            StackDimensions(blocks=len(blocks), weights=_matrices(blocks) // len(blocks)) for blocks in lists.values()
        )
    else:  # one block runs as often as there are layers
        once = _matrices(model.base_model) - sum(table.numel() for table in tables.values())
        stacks = (StackDimensions(blocks=int(getattr(config, "num_hidden_layers", 1)), weights=once),)
    return Dimensions(
        stacks=stacks,
        hidden_size=int(width),
        embedding_weights=sum(table.numel() for table in tables.values()),
        output_weights=0 if output is None else _matrices(output),
    )


def _matrices(module: object) -> int:
    parameters = module.parameters()  # type: ignore[attr-defined]
    return sum(parameter.numel() for parameter in parameters if parameter.ndim >= 2)


def max_positions(model: PreTrainedModel) -> int | None:
    """Positions in the model's table, the shortest where there are several; None without one (rotary positions)."""
    from torch import nn

    found = []
    for name, module in model.named_modules():
        last = name.rpartition(".")[2]
        if isinstance(module, nn.Embedding) and ("position" in last or last == "wpe"):
            # RoBERTa and its kin count positions from behind the padding token, BART's tables are two longer.
            positions = module.num_embeddings - (0 if module.padding_idx is None else module.padding_idx + 1)
            found.append(min(positions, getattr(model.config, "max_position_embeddings", None) or positions))
    return min(found, default=None)
