"""Tensors of a model that its folder's weights lack, or have in another shape: found without reading the weights.

transformers itself compares names and shapes, with all tensors on the meta device: so renamed tensors of old models,
prefixes and tied weights are understood as they are when the model is loaded.
"""

from __future__ import annotations

import pickle
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from finesearch.errors import ModelError
from finesearch.training.model.model_config import auto_class
from finesearch.training.model.model_files import quiet_transformers
from finesearch.training.model.module_structure import backbone_prefix, block_lists

if TYPE_CHECKING:
    import torch
    from transformers import PretrainedConfig, PreTrainedModel

# For models whose layers share one block: weights that lack more of the backbone than this are another model's.
LARGEST_FRESH_SHARE = 0.5
MOST_NAMED = 20


@dataclass(frozen=True, eq=False)
class LoadedModel:
    """missing: names of the parameters that the folder does not have, or has in another shape."""

    model: PreTrainedModel
    missing: frozenset[str]


def load_model(
    folder: Path,
    config: PretrainedConfig,
    kind: str,
    reads_weights: bool = True,
    dtype: torch.dtype | None = None,
) -> LoadedModel:
    """The model of a folder with the task's head; without ``reads_weights`` all of its tensors are on the meta device.

    dtype: type of its parameters; None is fp32. Tensors that the folder has in it are mapped into memory, not copied.

    Raises:
        ModelError: the weights cannot be read, or lack a part without which the model is another one: see
            ``refuse_incomplete``.
    """
    import torch
    from safetensors import SafetensorError

    with quiet_transformers():
        try:
            model, found = auto_class(kind, config).from_pretrained(
                folder,
                config=config,
                dtype=dtype or torch.float32,
                trust_remote_code=False,
                # A head of another task has other labels, so it is replaced.
                ignore_mismatched_sizes=True,
                output_loading_info=True,
                **({} if reads_weights else {"device_map": "meta"}),
            )
        except (
            OSError, ValueError, RuntimeError, KeyError, TypeError, AttributeError, EOFError,
            SafetensorError, pickle.UnpicklingError,
        ) as error:  # fmt: skip
            raise ModelError(
                f"task.model: the weights in {folder} cannot be read ({type(error).__name__}: {error}). "
                f"Fetch them again."
            ) from error
    missing = frozenset({*found["missing_keys"], *(entry[0] for entry in found["mismatched_keys"])})
    missing &= dict(model.named_parameters()).keys()
    refuse_incomplete(model, missing, folder)
    return LoadedModel(model, missing)


def refuse_incomplete(model: PreTrainedModel, missing: Collection[str], folder: Path) -> None:
    """Refuse weights without a part of a block, of the input embeddings or of a language model's own output layer.

    Raises:
        ModelError: naming the tensors.
    """
    blocks = tuple(f"{name}." for name in block_lists(model))
    needed = {id(parameter) for parameter in _tables(model)}
    absent = [(name, id(parameter)) for name, parameter in model.named_parameters() if name in missing]
    lost = [name for name, number in absent if name.startswith(blocks) or number in needed]
    described = f"those of a {type(model).__name__} as its config.json describes it"
    if lost:
        raise ModelError(
            f"task.model: the weights in {folder} are not {described}: they lack {_listed(lost)} "
            f"({_count(lost)}, missing or of another shape), which would start at random. Fetch config.json and the "
            f"weights from the same place."
        )
    prefix = backbone_prefix(model)
    backbone = {name: p.numel() for name, p in model.named_parameters() if prefix and name.startswith(prefix)}
    share = sum(size for name, size in backbone.items() if name in missing)
    if share > LARGEST_FRESH_SHARE * sum(backbone.values()):
        raise ModelError(
            f"task.model: the weights in {folder} are not {described}: {share} of {sum(backbone.values())} parameters "
            f"of the backbone are missing or of another shape. Fetch config.json and the weights from the same place."
        )


def missing_outside_blocks(model: PreTrainedModel, missing: Collection[str]) -> tuple[str, ...]:
    """Names of missing parameters in the backbone, such as its pooler's; a task's own head is new to most models."""
    prefix = backbone_prefix(model)
    names = [name for name, _ in model.named_parameters() if name in missing]
    return tuple(name for name in names if prefix and name.startswith(prefix))


def missing_note(names: Collection[str]) -> str:
    return (
        f"The weights in the model's folder lack {_listed(names)} ({_count(names)} outside of the blocks, missing "
        f"or of another shape), which start at random."
    )


def _tables(model: PreTrainedModel) -> list[Any]:
    """The weights of the input embeddings, and of a language model's output layer."""
    inputs: Any = model.get_input_embeddings()
    outputs: Any = model.get_output_embeddings()  # type: ignore[no-untyped-call]
    return [module.weight for module in (inputs, outputs) if getattr(module, "weight", None) is not None]


def _listed(names: Collection[str]) -> str:
    listed = list(names)
    more = len(listed) - MOST_NAMED
    return ", ".join(listed[:MOST_NAMED]) + (f" and {more} more" if more > 0 else "")


def _count(names: Collection[str]) -> str:
    return f"{len(names)} tensor{'s' if len(names) != 1 else ''}"
