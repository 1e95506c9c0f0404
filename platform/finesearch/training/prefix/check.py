"""Whether a model computes the same from kept outputs as from its own: tried, not assumed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from finesearch.training.prefix.bottom import Feed, Unfit, capture, needed_cuts
from finesearch.training.prefix.passes import Passes

if TYPE_CHECKING:
    from torch import Tensor

    from finesearch.data import TokenSplit

TOLERANCE = {"fp32": 1e-3, "bf16": 5e-2}
"""Largest difference of an output, as a share of the largest output."""


@dataclass(frozen=True)
class Form:
    """Hidden states: their width, and the bytes of a number in them."""

    width: int
    itemsize: int


def fitted(passes: Passes, tokens: TokenSplit, cut: int, precision: str) -> tuple[Feed, dict[int, Form]]:
    """A feed for the blocks below ``cut`` that was tried on two rows; and what each stack's blocks return.

    The latter by the number of blocks that run before the stack.

    The model is in eval mode afterwards.

    Raises:
        Unfit: it does not take kept outputs; says why.
    """
    import torch

    model, anatomy = passes.model, passes.base.anatomy
    model.train(False)
    order = np.argsort(tokens.lengths, kind="stable")
    # Of two lengths if there are any, so that one of them is padded.
    rows = tokens.rows([int(order[0]), int(order[len(order) // 2])])
    inputs = passes.inputs(rows)
    cuts = needed_cuts(passes.stacks, cut)
    captured = capture(model, anatomy, inputs, cuts)
    if captured.keys() != set(cuts):
        raise Unfit("not all of its layers run")
    for at, (hidden, _) in captured.items():
        if hidden.shape[:2] != passes.real(inputs, at, rows).shape:
            raise Unfit("its layers have other positions than the text has tokens")
    feed = Feed(model, anatomy, cuts, {at: form for at, (_, form) in captured.items()})
    with torch.no_grad():
        own = model(**inputs)
        # Each row computed by itself: what it gives must not hang on how it is padded.
        alone = [passes.run([row], cuts) for row in rows]
        kept = {}
        for at, (hidden, _) in captured.items():
            kept[at] = torch.zeros_like(hidden)
            kept[at][passes.real(inputs, at, rows)] = torch.cat([one[at][0] for one in alone])
        feed.give(kept)
        fed = model(**inputs)
        feed.give(None)
    _compare(own, fed, passes.real(inputs, passes.stacks[-1].last, rows), TOLERANCE[precision])
    forms = {
        passes.stack(at).first: Form(hidden.shape[2], hidden.element_size()) for at, (hidden, _) in captured.items()
    }
    return feed, forms


def _compare(own: Any, fed: Any, real: Tensor, tolerance: float) -> None:
    for name, value in own.items():
        if not hasattr(value, "is_floating_point") or not value.is_floating_point():
            continue
        other = fed[name]
        if value.shape[:2] == real.shape:
            value, other = value[real], other[real]
        if not bool((value - other).abs().max() <= tolerance * value.abs().max()):
            raise Unfit(f"its {name} differ when the outputs of its lowest layers are given")
