"""Sizes of the model's parts that cost compute: blocks, embeddings, output layer; and parameter counts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from finesearch.training.model.module_structure import block_lists
from finesearch.training.trial_types import FrozenRecord

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedModel


COMPOSED, COPIES_OF_COMPOSED = ("gelu_new", "gelu_fast", "gelu_accurate"), 4
"""Activation functions that transformers computes in several steps, and the tensors that they keep."""


class LinearShape(FrozenRecord):
    """A linear layer of a block: its name within the block, and its numbers of inputs and outputs."""

    name: str
    inputs: int
    outputs: int


class StackDimensions(FrozenRecord):
    """A stack of blocks over the same tokens; ``weights`` counts the entries of one block's matrices, ``vectors`` those
    of its norms and biases."""

    blocks: int
    weights: int
    vectors: int = 0
    linear: tuple[LinearShape, ...] = ()


class Dimensions(FrozenRecord):
    """Sizes of one model.

    ``stacks``: the encoder's before the decoder's. ``embedding_weights`` are looked up and not multiplied;
    ``output_weights`` count a language model's output layer, which multiplies every token (0: none).
    ``usual_targets``: ends of the names of the linear layers that LoRA adapts in this architecture; (): all. ``heads``
    are attention's. ``vocabulary``: outputs at every token (0: none). ``activation_copies``: tensors as wide as the
    inner layer that its activation function keeps. ``norms_scale_alone``: they have no bias (RMSNorm). ``dropout``,
    ``attention_dropout``: the model's own.
    """

    stacks: tuple[StackDimensions, ...] = ()
    hidden_size: int = 0
    embedding_weights: int = 0
    output_weights: int = 0
    usual_targets: tuple[str, ...] = ()
    heads: int = 0
    vocabulary: int = 0
    activation_copies: int = 1
    norms_scale_alone: bool = False
    dropout: float = 0.0
    attention_dropout: float = 0.0

    @property
    def blocks(self) -> int:
        return sum(stack.blocks for stack in self.stacks)


class ParameterCounts(FrozenRecord):
    """A model's parameter counts: trainable, and all."""

    trainable: int
    total: int


def count_parameters(model: nn.Module) -> ParameterCounts:
    """The counts of a model that ZeRO-3 has not partitioned."""
    sizes = [(_elements(parameter), parameter.requires_grad) for parameter in model.parameters()]
    return ParameterCounts(
        trainable=sum(size for size, trained in sizes if trained), total=sum(size for size, _ in sizes)
    )


def _elements(parameter: nn.Parameter) -> int:
    """Numbers in a parameter; bitsandbytes packs two of 4 bits into a byte."""
    state = getattr(parameter, "quant_state", None)
    return parameter.numel() if state is None else int(state.shape.numel())


def dimensions_of(model: PreTrainedModel) -> Dimensions:
    """Sizes of a model; its weights may be on the meta device."""
    from torch import nn

    tables = {id(module.weight): module.weight for module in model.modules() if isinstance(module, nn.Embedding)}
    output = model.get_output_embeddings()  # type: ignore[no-untyped-call]
    config = model.config.get_text_config()
    width = getattr(config, "hidden_size", None) or next(iter(tables.values())).shape[-1]
    lists = block_lists(model)
    if lists:
        stacks = tuple(
            StackDimensions(
                blocks=len(blocks),
                weights=_matrices(blocks) // len(blocks),
                vectors=_vectors(blocks) // len(blocks),
                linear=_linear(blocks[0]),
            )
            for blocks in lists.values()
        )
    else:  # one block is run once per layer
        once = _matrices(model.base_model) - sum(table.numel() for table in tables.values())
        layers = int(getattr(config, "num_hidden_layers", 1))
        base = model.base_model
        stacks = (StackDimensions(blocks=layers, weights=once, vectors=_vectors(base), linear=_linear(base)),)
    return Dimensions(
        stacks=stacks,
        hidden_size=int(width),
        embedding_weights=sum(table.numel() for table in tables.values()),
        output_weights=0 if output is None else _matrices(output),
        usual_targets=usual_targets(model),
        heads=int(getattr(config, "num_attention_heads", 0) or getattr(config, "num_heads", 0) or 0),
        vocabulary=0 if output is None else int(getattr(output, "out_features", 0)),
        activation_copies=COPIES_OF_COMPOSED if _activation(config) in COMPOSED else 1,
        norms_scale_alone=_norms_scale_alone(model),
        dropout=_probability(config, "hidden_dropout_prob", "resid_pdrop", "dropout_rate", "dropout"),
        attention_dropout=_probability(
            config, "attention_probs_dropout_prob", "attn_pdrop", "attention_dropout", "dropout_rate"
        ),
    )


def _activation(config: Any) -> object:
    names = ("hidden_act", "activation_function", "hidden_activation", "activation")
    return next((getattr(config, name) for name in names if getattr(config, name, None)), None)


def _probability(config: Any, *names: str) -> float:
    """The first of some fields of a config that it has, as a number."""
    return next((float(getattr(config, name)) for name in names if getattr(config, name, None) is not None), 0.0)


def _norms_scale_alone(model: nn.Module) -> bool:
    norms = [module for module in model.modules() if "norm" in type(module).__name__.lower()]
    return bool(norms) and not any(getattr(module, "bias", None) is not None for module in norms)


def usual_targets(model: PreTrainedModel) -> tuple[str, ...]:
    """Ends of the names of the linear layers that LoRA adapts by default, as peft lists them for the architecture."""
    from peft.utils.constants import TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING as MAPPING

    return tuple(MAPPING.get(model.config.model_type, ()))


def _linear(block: nn.Module) -> tuple[LinearShape, ...]:
    from torch.nn import Linear
    from transformers.pytorch_utils import Conv1D

    found = []
    for name, module in block.named_modules():
        if isinstance(module, Linear | Conv1D):
            rows, columns = module.weight.shape
            # GPT-2's Conv1D stores its matrix transposed.
            inputs, outputs = (columns, rows) if isinstance(module, Linear) else (rows, columns)
            found.append(LinearShape(name=name, inputs=inputs, outputs=outputs))
    return tuple(found)


def _vectors(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters() if parameter.ndim < 2)


def _matrices(module: object) -> int:
    parameters = module.parameters()  # type: ignore[attr-defined]
    return sum(parameter.numel() for parameter in parameters if parameter.ndim >= 2)


def max_positions(model: PreTrainedModel) -> int | None:
    """Length of the model's position table, the shortest if there are several; None without one (rotary positions)."""
    from torch import nn

    found = []
    for name, module in model.named_modules():
        last = name.rpartition(".")[2]
        if isinstance(module, nn.Embedding) and ("position" in last or last == "wpe"):
            # RoBERTa-like models number positions from after the padding id; BART's tables are two longer.
            positions = module.num_embeddings - (0 if module.padding_idx is None else module.padding_idx + 1)
            found.append(min(positions, getattr(model.config, "max_position_embeddings", None) or positions))
    return min(found, default=None)
