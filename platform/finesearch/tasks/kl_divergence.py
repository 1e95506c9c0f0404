"""Kullback-Leibler divergence between two forward passes over the same rows, which R-Drop minimises."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def symmetric_kl_divergence(one: Tensor, other: Tensor) -> Tensor:
    """``(KL(p ‖ q) + KL(q ‖ p)) / 2`` for logits (..., C) of two categorical distributions; (...) in float32.

    >>> import torch
    >>> one, other = torch.tensor([[0.0, 0.0]]), torch.log(torch.tensor([[0.8, 0.2]]))
    >>> symmetric_kl_divergence(one, other)
    tensor([0.2079])
    """
    log_p, log_q = one.float().log_softmax(dim=-1), other.float().log_softmax(dim=-1)
    # The two directions combine: the sum over classes of (p - q) (log p - log q).
    return ((log_p.exp() - log_q.exp()) * (log_p - log_q)).sum(dim=-1) / 2
