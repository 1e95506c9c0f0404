"""Whether a model computes the same from kept outputs as from its own: tried, not assumed; once for each shape."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from finesearch.training.prefix_cache.block_outputs import Feed, Unfit, capture, needed_cuts
from finesearch.training.prefix_cache.embedding_bypass import entrances
from finesearch.training.prefix_cache.forward import Passes

if TYPE_CHECKING:
    import torch
    from torch import Tensor
    from transformers import PreTrainedModel

    from finesearch.data import TokenSplit

TOLERANCE = {"fp32": 1e-3, "bf16": 5e-2}
"""Largest difference of an output, as a share of the largest output."""


@dataclass(frozen=True)
class Form:
    """Hidden states: their width, and the bytes of a number in them."""

    width: int
    itemsize: int


@dataclass(frozen=True)
class Fit:
    """What was found of the blocks below a cut.

    blocks: cut -> form of the block below it, see ``capture``. forms: of each stack's blocks, by the number of blocks
    that run before it. entrances: what need not run before the blocks.
    """

    blocks: Mapping[int, int]
    forms: Mapping[int, Form]
    entrances: Mapping[str, torch.dtype]


def feed_of(
    passes: Passes, tokens: TokenSplit, cut: int, precision: str, known: dict[Any, Fit | Unfit]
) -> tuple[Feed, Fit]:
    """A feed for the blocks below ``cut`` of a model that was tried, or one of the same modules was; ``known`` grows.

    Raises:
        Unfit: see ``fitted``.
    """
    model, anatomy = passes.model, passes.base.anatomy
    key = (cut, precision, hash(tuple((name, type(module)) for name, module in model.named_modules())))
    found = known.get(key)
    if found is None:
        try:
            feed, fit = fitted(passes, tokens, cut, precision)
        except Unfit as error:
            # Without its traceback, which would keep the model alive.
            known[key] = Unfit(str(error))
            raise
        known[key] = fit
        return feed, fit
    if isinstance(found, Unfit):
        raise Unfit(str(found))
    return Feed(model, anatomy, found.blocks.keys(), found.blocks, found.entrances), found


def fitted(passes: Passes, tokens: TokenSplit, cut: int, precision: str) -> tuple[Feed, Fit]:
    """A feed for the blocks below ``cut`` that was tried on two rows; and what those blocks return.

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
    blocks = {at: form for at, (_, form) in captured.items()}
    before = entrances(model, anatomy, inputs, captured[min(cuts)][0].shape)
    feed = Feed(model, anatomy, cuts, blocks, before)
    with torch.no_grad():
        own = model(**inputs)
        # Each row computed by itself: what it gives must not hang on how it is padded.
        alone = [passes.run([row], cuts) for row in rows]
        kept = {}
        for at, (hidden, _) in captured.items():
            kept[at] = torch.zeros_like(hidden)
            kept[at][passes.real(inputs, at, rows)] = torch.cat([one[at][0] for one in alone])
        real = passes.real(inputs, passes.stacks[-1].last, rows)
        if not _is_alike(own, _fed(feed, kept, model, inputs), real, TOLERANCE[precision]):
            # It looks at what stands below the blocks.
            feed.entrances.clear()
            _compare(own, _fed(feed, kept, model, inputs), real, TOLERANCE[precision])
    forms = {
        passes.stack(at).first: Form(hidden.shape[2], hidden.element_size()) for at, (hidden, _) in captured.items()
    }
    return feed, Fit(blocks, forms, dict(feed.entrances))


def _fed(feed: Feed, kept: Mapping[int, Tensor], model: PreTrainedModel, inputs: dict[str, Any]) -> Any:
    feed.give(kept)
    try:
        return model(**inputs)
    finally:
        feed.give(None)


def _is_alike(own: Any, fed: Any, real: Tensor, tolerance: float) -> bool:
    try:
        _compare(own, fed, real, tolerance)
    except Unfit:
        return False
    return True


def _compare(own: Any, fed: Any, real: Tensor, tolerance: float) -> None:
    for name, value in own.items():
        if not hasattr(value, "is_floating_point") or not value.is_floating_point():
            continue
        other = fed[name]
        if value.shape[:2] == real.shape:
            value, other = value[real], other[real]
        if not bool((value - other).abs().max() <= tolerance * value.abs().max()):
            raise Unfit(f"its {name} differ when the outputs of its lowest layers are given")
