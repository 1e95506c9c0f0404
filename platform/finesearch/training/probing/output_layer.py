"""A head's output layer: the linear layer whose outputs are the logits; found, left out, and given weights."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from finesearch.errors import ModelError
from finesearch.training.model.module_structure import HELD, backbone_prefix

if TYPE_CHECKING:
    import numpy as np
    from transformers import PreTrainedModel


@dataclass(frozen=True, eq=False)
class LinearHead:
    """Weights of an output layer in float32: ``weight`` (C, d), ``bias`` (C,); None where the layer has no bias."""

    weight: np.ndarray
    bias: np.ndarray | None


def find_output_layer(model: PreTrainedModel) -> str:
    """Name of the output layer: the last linear layer above the backbone with an output for each label.

    Raises:
        ModelError: there is none.
    """
    prefix = backbone_prefix(model)
    found: list[str] = [
        name
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear)
        and module.out_features == model.config.num_labels
        and not (prefix and name.startswith(prefix))
    ]
    if not found:
        raise ModelError(
            f"{type(model).__name__} has no linear output layer of its own with {model.config.num_labels} outputs, "
            f"which a probe is solved for. Use head_init: random and no linear_probe, or choose another model."
        )
    return found[-1]


def output_parameters(model: PreTrainedModel, name: str) -> tuple[str, ...]:
    """Names of the output layer's parameters in the model."""
    return tuple(f"{name}.{own}" for own, _ in model.get_submodule(name).named_parameters())


@contextmanager
def without_output_layer(model: PreTrainedModel, name: str) -> Iterator[None]:
    """Inside the block the model's ``logits`` are the inputs of its output layer."""
    parent, _, own = name.rpartition(".")
    holder: Any = model.get_submodule(parent)
    layer = getattr(holder, own)
    setattr(holder, own, nn.Identity())
    try:
        yield
    finally:
        setattr(holder, own, layer)


def set_output_layer(model: PreTrainedModel, head: LinearHead) -> None:
    """Give the output layer the weights of ``head`` in fp32, in memory of its own: it may share that of the base."""
    layer: Any = model.get_submodule(find_output_layer(model))
    assert (layer.bias is None) == (head.bias is None), "the head was solved for another layer"
    for parameter, values in ((layer.weight, head.weight), (layer.bias, head.bias)):
        if values is not None:
            assert parameter.shape == values.shape, (parameter.shape, values.shape)
            vars(parameter).pop(HELD, None)
            parameter.data = torch.from_numpy(values.copy()).to(parameter.device)


def make_linear(head: LinearHead, device: torch.device) -> nn.Linear:
    """The layer alone."""
    outputs, width = head.weight.shape
    layer = nn.Linear(width, outputs, bias=head.bias is not None, device=device)
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(head.weight))
        if head.bias is not None:
            layer.bias.copy_(torch.from_numpy(head.bias))
    return layer
