"""The scale of a regression's numbers in its output layer: put in for an export, taken out of a base with a head."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from finesearch.training.probing.output_layer import find_output_layer

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from finesearch.tasks.task import TargetScale


def fold_target_scale(model: PreTrainedModel, scale: TargetScale | None) -> None:
    """Change the output layer, in place, so that outputs have the data's scale and not the model's.

    The layer has a bias: ``choose_head`` and ``check_recipe_space`` see to it.
    """
    if scale is not None:
        _transform(model, scale.deviation, scale.mean)


def unfold_target_scale(model: PreTrainedModel, scale: TargetScale | None, fresh: frozenset[str] = frozenset()) -> None:
    """The reverse, for a head that the base model brings along; parameters in ``fresh`` are drawn anew anyway."""
    if scale is None:
        return
    name = find_output_layer(model)
    layer: Any = model.get_submodule(name)
    if layer.bias is not None and f"{name}.weight" not in fresh:
        _transform(model, 1.0 / scale.deviation, -scale.mean / scale.deviation)


def _transform(model: PreTrainedModel, factor: float, shift: float) -> None:
    layer: Any = model.get_submodule(find_output_layer(model))
    assert layer.bias is not None, "numbers are standardised only for output layers with a bias"
    with torch.no_grad():
        # In double precision: a mean far above the deviation leaves few digits in float32.
        for parameter, added in ((layer.weight, 0.0), (layer.bias, shift)):
            parameter.copy_(parameter.double() * factor + added)
