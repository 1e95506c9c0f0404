"""A base model cut after its k-th layer: the same architecture with ``num_hidden_layers`` k, which costs less to run.

What an architecture has above its layers (a final norm, a pooler) stays. The weights of the layers above are left out,
so that a head on layer k is exported as an ordinary folder of a smaller model.
"""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from finesearch.errors import ModelError
from finesearch.training.model.model_config import build_skeleton
from finesearch.training.model.module_structure import num_blocks

if TYPE_CHECKING:
    from pathlib import Path

    from transformers import PretrainedConfig

    from finesearch.training.model.base_model import PretrainedBase


def num_layers(config: PretrainedConfig) -> int:
    """Layers that the model runs, shared ones counted as often as they run."""
    return int(config.get_text_config().num_hidden_layers)


def cut_config(config: PretrainedConfig, layer: int) -> PretrainedConfig:
    """The config of the model cut after its ``layer``-th layer; lists with an item for each layer are cut as well."""
    cut = copy.deepcopy(config)
    own: Any = cut.get_text_config()
    total = num_layers(config)
    for name, value in list(vars(own).items()):
        if "layer" in name and isinstance(value, list) and len(value) == total:
            setattr(own, name, value[:layer])
    own.num_hidden_layers = layer
    return cut


def check_layer(config: PretrainedConfig, kind: str, folder: Path, layer: int | None) -> None:
    """Check that the model can be cut after ``layer`` layers; None: it is not cut.

    Raises:
        ModelError: it has fewer layers, an encoder and a decoder, or its class does not take fewer layers.
    """
    if layer is None:
        return
    where = "adaptation.linear_probe.layer"
    if config.is_encoder_decoder:
        raise ModelError(
            f"{where}: {type(config).__name__} has an encoder and a decoder, which are not cut; expected null, got "
            f"{layer}. Leave layer out."
        )
    total = num_layers(config)
    if not 1 <= layer <= total:
        raise ModelError(
            f"{where}: {type(config).__name__} of {folder} has {total} layers, so expected 1 to {total}, got {layer}. "
            f"Lower the number, or choose a deeper model."
        )
    if layer == total:
        return
    whole = num_blocks(build_skeleton(config, kind, folder))
    try:
        blocks = num_blocks(build_skeleton(cut_config(config, layer), kind, folder))
    except (ModelError, AssertionError, IndexError, NotImplementedError, TypeError) as error:
        raise _uncut(where, config, str(error)) from error
    if whole and blocks != layer:
        raise _uncut(where, config, f"it has {blocks} layers then")


def _uncut(where: str, config: PretrainedConfig, why: str) -> ModelError:
    return ModelError(
        f"{where}: {type(config).__name__} cannot be built with fewer layers ({why}). Leave layer out: the probe then "
        f"reads the last one."
    )


def cut_base(base: PretrainedBase, layer: int) -> PretrainedBase:
    """The base model without the blocks above its ``layer``-th; the same base where there are none."""
    if base.config.is_encoder_decoder or layer == num_layers(base.config):
        return base
    structure = base.structure
    above = tuple(f"{name}." for name in structure.blocks[layer:])
    return replace(
        base,
        config=cut_config(base.config, layer),
        tensors={name: tensor for name, tensor in base.tensors.items() if not name.startswith(above)},
        fresh=frozenset(name for name in base.fresh if not name.startswith(above)),
        structure=replace(
            structure,
            blocks=structure.blocks[:layer],
            stages={name: min(stage, layer) for name, stage in structure.stages.items()},
        ),
    )
