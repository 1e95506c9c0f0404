"""An encoder with a linear head on mean-pooled tokens, two markers, the first piece of each word, or every token."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from peers.encoded_rows import IGNORED, EncodedRow, Problem, Reading
from torch import Tensor, nn
from transformers import AutoModel

EVALUATION_ROWS = 64


@dataclass(frozen=True)
class Batch:
    """ids, types, mask: int64 (B, T); places: int64 (B, P); targets: int64, padded with ``IGNORED``."""

    ids: Tensor
    types: Tensor
    mask: Tensor
    places: Tensor
    targets: Tensor


def collate(rows: Sequence[EncodedRow], padding: int) -> Batch:
    """Rows padded to the longest one."""

    def padded(lists: Sequence[list[int]], value: int) -> Tensor:
        longest = max(map(len, lists))
        return torch.tensor([[*one, *[value] * (longest - len(one))] for one in lists])

    ids = [row.ids for row in rows]
    return Batch(
        padded(ids, padding),
        padded([row.types for row in rows], 0),
        padded([[1] * len(one) for one in ids], 0),
        padded([row.places for row in rows], 0),
        padded([row.targets for row in rows], IGNORED),
    )


class EncoderHead(nn.Module):
    """Body and head."""

    def __init__(self, problem: Problem, head_dropout: float = 0.1) -> None:
        super().__init__()
        self.body = AutoModel.from_pretrained(problem.contest.model)
        if problem.reading == "markers":
            self.body.resize_token_embeddings(len(problem.tokenizer), mean_resizing=False)
        self.reading: Reading = problem.reading
        self.takes_types = getattr(self.body.config, "type_vocab_size", 0) > 1
        width = self.body.config.hidden_size * (2 if self.reading == "markers" else 1)
        self.dropout = nn.Dropout(head_dropout)
        self.head = nn.Linear(width, len(problem.labels))

    def features(self, batch: Batch) -> Tensor:
        """(B, D) of texts and relations, (B, P, D) of words, (B, T, D) of tokens."""
        types = {"token_type_ids": batch.types} if self.takes_types else {}
        hidden: Tensor = self.body(input_ids=batch.ids, attention_mask=batch.mask, **types).last_hidden_state
        if self.reading == "mean":
            mask = batch.mask.unsqueeze(-1).to(hidden.dtype)
            return (hidden * mask).sum(1) / mask.sum(1)
        if self.reading == "tokens":
            return hidden
        picked = hidden.gather(1, batch.places.unsqueeze(-1).expand(-1, -1, hidden.shape[-1]))
        return picked.flatten(1) if self.reading == "markers" else picked

    def forward(self, batch: Batch) -> Tensor:
        logits: Tensor = self.head(self.dropout(self.features(batch)))
        # No answer begins or ends in padding.
        return logits.masked_fill(batch.mask.unsqueeze(-1) == 0, -1e4) if self.reading == "tokens" else logits

    def loss(self, batch: Batch) -> Tensor:
        """Cross-entropy: over classes, or of a window over its tokens, for the first and the last one."""
        logits = self(batch)
        if self.reading == "tokens":
            return nn.functional.cross_entropy(logits.transpose(1, 2).flatten(0, 1), batch.targets.flatten())
        return nn.functional.cross_entropy(
            logits.reshape(-1, logits.shape[-1]), batch.targets.flatten(), ignore_index=IGNORED
        )


def by_length(rows: Sequence[EncodedRow], padding: int) -> Iterator[tuple[list[int], Batch]]:
    """Batches of rows of similar length, with the rows' numbers."""
    order = sorted(range(len(rows)), key=lambda place: len(rows[place].ids))
    for start in range(0, len(order), EVALUATION_ROWS):
        part = order[start : start + EVALUATION_ROWS]
        yield part, collate([rows[place] for place in part], padding)


@torch.no_grad()
def logits_of(model: EncoderHead, problem: Problem, split: str) -> list[Tensor]:
    """Of each encoded row, without padding: (C,), or (its places or tokens, C)."""
    return _outputs(model, problem, split, model)


@torch.no_grad()
def features_of(model: EncoderHead, problem: Problem, split: str) -> list[Tensor]:
    """What the head reads of each encoded row: (D,) or (its places, D)."""
    return _outputs(model, problem, split, model.features)


def _outputs(model: EncoderHead, problem: Problem, split: str, compute: object) -> list[Tensor]:
    assert callable(compute)
    model.eval()
    rows = problem.encoded[split]
    found: list[Tensor] = [torch.empty(0)] * len(rows)
    for places, batch in by_length(rows, problem.tokenizer.pad_token_id or 0):
        for place, one in zip(places, compute(batch), strict=True):
            size = len(rows[place].places) if model.reading == "words" else len(rows[place].ids)
            found[place] = one if one.dim() == 1 else one[:size]
    return found
