"""Special tokens that a task adds to the vocabulary: in the tokenizer, and as separate trainable embedding rows.

The new rows are a parameter beside the base's table, not part of it: frozen with the table, they would keep their
random values, and trained with it, they would make a frozen table look trained. As a parameter that the base did not
have, they are drawn for each trial, trained under every adaptation and stored in every checkpoint.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from finesearch.errors import ModelError
from finesearch.training.model.model_files import load_tokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from finesearch.tasks import TaskFacts


class ExtendedEmbedding(nn.Embedding):
    """An embedding table, and a separate parameter of ``count`` rows for the ids from ``start`` on."""

    def __init__(self, table: nn.Embedding, start: int, count: int) -> None:
        rows, width = table.weight.shape
        super().__init__(rows, width, padding_idx=table.padding_idx, _weight=table.weight.detach())
        self.weight = table.weight
        self.start = start
        self.added = nn.Embedding(count, width, device=table.weight.device, dtype=table.weight.dtype)

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """ids (…) to embeddings (…, width)."""
        number = input - self.start
        is_added = (number >= 0) & (number < self.added.num_embeddings)
        known = super().forward(input.masked_fill(is_added, 0))
        return torch.where(is_added[..., None], self.added(number.masked_fill(~is_added, 0)), known)

    def merged(self) -> nn.Embedding:
        """One ordinary embedding table that includes the added rows."""
        rows, width = self.weight.shape
        behind = self.start + self.added.num_embeddings
        table = torch.zeros(max(rows, behind), width, dtype=self.weight.dtype)
        table[:rows] = self.weight.detach()
        table[self.start : behind] = self.added.weight.detach()
        return nn.Embedding(len(table), width, padding_idx=self.padding_idx, _weight=table)


def task_tokenizer(folder: Path, facts: TaskFacts) -> tuple[PreTrainedTokenizerBase, dict[str, int]]:
    """The folder's tokenizer with the task's tokens added, and the config fields that record the new ids.

    Raises:
        ModelError: see ``load_tokenizer``.
    """
    tokenizer = load_tokenizer(folder)
    ids = add_tokens(tokenizer, facts.special_tokens)
    if not ids:
        return tokenizer, {}
    return tokenizer, {"added_tokens_start": ids[0], "num_added_tokens": len(ids)}


def add_tokens(tokenizer: Any, tokens: Sequence[str]) -> list[int]:
    """Add special tokens and return the ids of the new ones, which are consecutive.

    Tokens that the tokenizer already has, because the base model was trained with them, stay unchanged.

    Raises:
        ModelError: the tokenizer's ids have a gap, which the new ids would collide with.
    """
    from transformers import AddedToken

    known = tokenizer.get_vocab()
    new = [token for token in tokens if token not in known]
    # The space before a marker is part of it: in a byte-level vocabulary it would be a separate token.
    tokenizer.add_tokens([AddedToken(t, lstrip=True, normalized=False, special=True) for t in new], special_tokens=True)
    ids: list[int] = tokenizer.convert_tokens_to_ids(new)
    if set(ids) & set(known.values()):
        # The ids have a gap, and new tokens are numbered by the vocabulary's size.
        raise ModelError(
            f"task.model: the tokenizer of {tokenizer.name_or_path} numbers {len(known)} tokens up to"
            f" {max(known.values())}, so that tokens cannot be added to it, as the task must. Choose another model."
        )
    return ids
