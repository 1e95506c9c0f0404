"""How many tokens a model can take at once."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def positions_of(model: PreTrainedModel) -> int | None:
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
