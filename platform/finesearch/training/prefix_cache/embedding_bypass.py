"""Modules before the first block that can be skipped, too, when cached outputs of blocks are injected."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from finesearch.training.model.module_structure import ModuleStructure

if TYPE_CHECKING:
    import torch
    from torch import nn
    from transformers import PreTrainedModel


def bypassed_modules(
    model: PreTrainedModel, structure: ModuleStructure, inputs: Mapping[str, Any], shape: torch.Size
) -> dict[str, torch.dtype]:
    """The largest modules below the first block that run once and return hidden states (B, T, d) of ``shape``.

    Maps each to the type of its output. Whether the model works without them must be tested (``self_test``).
    """
    import torch

    returned: dict[str, list[Any]] = {name: [] for name in _tops(structure)}

    def note(name: str) -> Any:
        def hook(_module: nn.Module, _args: Any, output: Any) -> None:
            returned[name].append(output)

        return hook

    handles = [model.get_submodule(name).register_forward_hook(note(name)) for name in returned]
    try:
        with torch.no_grad():
            model(**inputs)
    finally:
        for handle in handles:
            handle.remove()
    once = {name: outputs[0] for name, outputs in returned.items() if len(outputs) == 1}
    return {
        name: output.dtype
        for name, output in once.items()
        if isinstance(output, torch.Tensor) and output.shape == shape
    }


def _tops(structure: ModuleStructure) -> list[str]:
    """Names of the outermost modules that run completely before the first block.

    >>> depths = {"b.emb.words": 0, "b.emb.norm": 0, "b.pos": 0, "b.pool": 1}
    >>> _tops(ModuleStructure("b", ("b.layer.0",), depths, ("b",)))
    ['b.emb', 'b.pos']
    """
    above = [*structure.blocks, *(name for name, stage in structure.stages.items() if stage > 0)]
    tops: dict[str, None] = {}
    for name, stage in structure.stages.items():
        if stage > 0:
            continue
        top, outer = name, name.rpartition(".")[0]
        while outer and outer != structure.backbone and not any(other.startswith(f"{outer}.") for other in above):
            top, outer = outer, outer.rpartition(".")[0]
        tops[top] = None
    return list(tops)
