"""Pooling: one vector for a text, or for a pair of texts, from the states of its tokens.

Reimers and Gurevych, Sentence-BERT, 2019, compare the first three; ``last`` is what decoders are classified by.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from finesearch.plan.space.parameters import POOLINGS


def pool(pooling: str, states: Tensor, mask: Tensor | None = None, scores: Tensor | None = None) -> Tensor:
    """One vector for each text, whatever the padding and its side: (B, H), in the type of ``states``.

    pooling: one of ``POOLINGS``. states: (B, T, H). mask: (B, T), not 0 at tokens; None: all are tokens. scores:
    (B, T), for ``attention`` alone. A text without any token gives zeros, or its first state (``cls`` and ``last``).
    """
    tokens = torch.ones(states.shape[:2], dtype=torch.bool, device=states.device) if mask is None else mask.bool()
    if pooling == "attention":
        assert scores is not None
        return _weighted(states, tokens, scores)
    return _FUNCTIONS[pooling](states, tokens)


def _first(states: Tensor, tokens: Tensor) -> Tensor:
    """The first token's state: that of [CLS] or <s> in an encoder, whose final state BERT classifies by."""
    length = tokens.shape[1]
    return _at((tokens * torch.arange(length, 0, -1, device=tokens.device)).argmax(1), states)


def _last(states: Tensor, tokens: Tensor) -> Tensor:
    """The last token's state, the only one that has seen the whole text in a decoder."""
    return _at((tokens * torch.arange(1, tokens.shape[1] + 1, device=tokens.device)).argmax(1), states)


def _mean(states: Tensor, tokens: Tensor) -> Tensor:
    """The mean over the tokens, summed in fp32."""
    total = states.masked_fill(~tokens[..., None], 0.0).sum(1, dtype=torch.float32)
    return (total / tokens.sum(1, keepdim=True).clamp(min=1)).to(states.dtype)


def _max(states: Tensor, tokens: Tensor) -> Tensor:
    """The largest value of each feature over the tokens."""
    largest = states.masked_fill(~tokens[..., None], torch.finfo(states.dtype).min).amax(1)
    return largest.masked_fill(~tokens.any(1, keepdim=True), 0.0)


def _weighted(states: Tensor, tokens: Tensor, scores: Tensor) -> Tensor:
    """The mean over the tokens with weights softmax(scores): Lin et al., A Structured Self-attentive Sentence
    Embedding, 2017, with one hop and a linear score."""
    weights = scores.float().masked_fill(~tokens, torch.finfo(torch.float32).min).softmax(1)
    weights = weights.masked_fill(~tokens, 0.0).to(states.dtype)
    return torch.bmm(weights[:, None], states.masked_fill(~tokens[..., None], 0.0))[:, 0]


def _at(positions: Tensor, states: Tensor) -> Tensor:
    return states[torch.arange(len(states), device=states.device), positions]


_FUNCTIONS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"cls": _first, "mean": _mean, "max": _max, "last": _last}
assert {*_FUNCTIONS, "attention"} == set(POOLINGS)
