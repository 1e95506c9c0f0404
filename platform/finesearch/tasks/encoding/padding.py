"""Padding: collates rows of different lengths into one numpy block, converted to torch once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from finesearch.errors import ModelError
from finesearch.tasks.encoding.array_columns import flat_values

if TYPE_CHECKING:
    from torch import Tensor

IGNORED = -100
"""The label of positions that the loss ignores."""
# GPU matrix kernels work on multiples of 8, so rounding up to one costs nothing.
PAD_TO_MULTIPLE_OF = 8


def padded_width(longest: int, limit: int, multiple: int = PAD_TO_MULTIPLE_OF) -> int:
    """``longest`` rounded up to the multiple, but at most ``limit``: the model may have no positions beyond it.

    >>> padded_width(19, limit=128), padded_width(99, limit=100), padded_width(64, limit=64)
    (24, 100, 64)
    """
    return max(longest, min(-(-longest // multiple) * multiple, limit))


def pad_token_id(tokenizer: Any) -> int:
    """The padding id; decoders' tokenizers often have no padding token, so their end token is used.

    Raises:
        ModelError: the tokenizer has neither.
    """
    for token_id in (tokenizer.pad_token_id, tokenizer.eos_token_id):
        if token_id is not None:
            return int(token_id)
    name = getattr(tokenizer, "name_or_path", "") or type(tokenizer).__name__
    raise ModelError(
        f"{name}: the tokeniser has neither a padding token nor an end token, expected one to pad batches with.\n"
        "  Set `pad_token` in the model folder's tokenizer_config.json."
    )


def pad_rows(
    rows: Sequence[Mapping[str, Any]],
    tokenizer: Any,
    limit: int,
    multiple: int = PAD_TO_MULTIPLE_OF,
    side: str | None = None,
) -> dict[str, Tensor]:
    """``input_ids``, ``attention_mask`` and, where the rows have them, ``token_type_ids``: int64 (B, T) each.

    rows: token rows; each column an int sequence (t,), t >= 1.
    limit: the plan's max_length; multiple: see ``padded_width``. side: padding side, if not the tokenizer's.

    The three are slices of one block, so that a batch needs one allocation and one ``torch.from_numpy``.
    """
    import torch

    ids, lengths = flat_values(rows, "input_ids")
    width = padded_width(int(lengths.max()), limit, multiple)
    positions = np.arange(width)
    if (side or getattr(tokenizer, "padding_side", "right")) == "left":
        real = positions >= (width - lengths)[:, None]
    else:
        real = positions < lengths[:, None]
    has_types = "token_type_ids" in rows[0]
    block = np.zeros((3 if has_types else 2, len(rows), width), dtype=np.int64)
    block[0] = pad_token_id(tokenizer)
    block[0][real] = ids
    block[1] = real
    if has_types:
        block[2][real] = flat_values(rows, "token_type_ids")[0]
    tensors = torch.from_numpy(block)
    names = ("input_ids", "attention_mask", "token_type_ids")
    return {name: tensors[i] for i, name in enumerate(names[: len(block)])}


def pad_labels(rows: Sequence[Mapping[str, Any]], name: str, attention_mask: Tensor, fill: int) -> Tensor:
    """Column ``name``, one number per token, as int64 (B, T); ``fill`` where the mask has padding."""
    import torch

    padded = torch.full(attention_mask.shape, fill, dtype=torch.int64)
    padded[attention_mask.bool()] = torch.from_numpy(flat_values(rows, name)[0].astype(np.int64))
    return padded


def pad_lists(
    rows: Sequence[Mapping[str, Any]], name: str, fill: int, limit: int, multiple: int = PAD_TO_MULTIPLE_OF
) -> Tensor:
    """Column ``name``, a list of numbers per row, as int64 (B, T), right-padded with ``fill``; T: ``padded_width``."""
    import torch

    values, lengths = flat_values(rows, name)
    width = padded_width(int(lengths.max()), limit, multiple)
    block = np.full((len(rows), width), fill, dtype=np.int64)
    block[np.arange(width) < lengths[:, None]] = values
    return torch.from_numpy(block)
