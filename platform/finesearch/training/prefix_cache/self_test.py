"""Self-test: does a model compute the same from cached outputs as from its own? Run once per model structure."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from finesearch.training.prefix_cache.block_outputs import NotCacheable, OutputInjector, capture, required_depths
from finesearch.training.prefix_cache.embedding_bypass import bypassed_modules
from finesearch.training.prefix_cache.forward import PrefixForward

if TYPE_CHECKING:
    import torch
    from torch import Tensor
    from transformers import PreTrainedModel

    from finesearch.data import TokenizedSplit

TOLERANCE = {"fp32": 1e-3, "bf16": 5e-2}
"""Maximum difference of an output, relative to the largest output."""


@dataclass(frozen=True)
class HiddenStateFormat:
    """Hidden states: width, and bytes per element."""

    width: int
    itemsize: int


@dataclass(frozen=True)
class VerifiedBlocks:
    """Self-test result for the blocks below a depth.

    blocks: depth -> form of the block below it, see ``capture``. forms: of each stack's blocks, by the number of blocks
    that run before it. bypassed_modules: modules before the blocks that can be skipped.
    """

    blocks: Mapping[int, int]
    forms: Mapping[int, HiddenStateFormat]
    bypassed_modules: Mapping[str, torch.dtype]


def injector_of(
    prefix_forward: PrefixForward,
    tokens: TokenizedSplit,
    depth: int,
    precision: str,
    known: dict[Hashable, VerifiedBlocks | NotCacheable],
) -> tuple[OutputInjector, VerifiedBlocks]:
    """An injector for the blocks below ``depth``, and its self-test's result, which ``known`` keeps by structure.

    Raises:
        NotCacheable: see ``build_verified_injector``.
    """
    model, structure = prefix_forward.model, prefix_forward.base.structure
    key = (depth, precision, hash(tuple((name, type(module)) for name, module in model.named_modules())))
    found = known.get(key)
    if found is None:
        try:
            injector, fit = build_verified_injector(prefix_forward, tokens, depth, precision)
        except NotCacheable as error:
            # Without the traceback, which would keep the model alive.
            known[key] = NotCacheable(str(error))
            raise
        known[key] = fit
        return injector, fit
    if isinstance(found, NotCacheable):
        raise NotCacheable(str(found))
    return OutputInjector(model, structure, found.blocks.keys(), found.blocks, found.bypassed_modules), found


def build_verified_injector(
    prefix_forward: PrefixForward, tokens: TokenizedSplit, depth: int, precision: str
) -> tuple[OutputInjector, VerifiedBlocks]:
    """An injector for the blocks below ``depth``, tested on two rows; and the test's result.

    The model is in eval mode afterwards.

    Raises:
        NotCacheable: the model does not accept cached outputs; says why.
    """
    import torch

    model, structure = prefix_forward.model, prefix_forward.base.structure
    model.train(False)
    order = np.argsort(tokens.lengths, kind="stable")
    # Rows of two lengths if possible, so that one is padded.
    rows = tokens.rows([int(order[0]), int(order[len(order) // 2])])
    inputs = prefix_forward.inputs(rows)
    cache_depths = required_depths(prefix_forward.stacks, depth)
    captured = capture(model, structure, inputs, cache_depths)
    if captured.keys() != set(cache_depths):
        raise NotCacheable("not all of its layers run")
    for at, (hidden, _) in captured.items():
        if hidden.shape[:2] != prefix_forward.token_mask(inputs, at, rows).shape:
            raise NotCacheable("its layers have other positions than the text has tokens")
    blocks = {at: form for at, (_, form) in captured.items()}
    before = bypassed_modules(model, structure, inputs, captured[min(cache_depths)][0].shape)
    injector = OutputInjector(model, structure, cache_depths, blocks, before)
    with torch.no_grad():
        own = model(**inputs)
        # Each row is computed alone: its output must not depend on padding.
        alone = [prefix_forward.run([row], cache_depths) for row in rows]
        kept = {}
        for at, (hidden, _) in captured.items():
            kept[at] = torch.zeros_like(hidden)
            kept[at][prefix_forward.token_mask(inputs, at, rows)] = torch.cat([one[at][0] for one in alone])
        token_mask = prefix_forward.token_mask(inputs, prefix_forward.stacks[-1].last, rows)
        if not _is_alike(own, _fed(injector, kept, model, inputs), token_mask, TOLERANCE[precision]):
            # The model uses the skipped modules in another way, too.
            injector.bypassed_modules.clear()
            _compare(own, _fed(injector, kept, model, inputs), token_mask, TOLERANCE[precision])
    forms = {
        prefix_forward.stack(at).first: HiddenStateFormat(hidden.shape[2], hidden.element_size())
        for at, (hidden, _) in captured.items()
    }
    return injector, VerifiedBlocks(blocks, forms, dict(injector.bypassed_modules))


def _fed(injector: OutputInjector, kept: Mapping[int, Tensor], model: PreTrainedModel, inputs: dict[str, Any]) -> Any:
    injector.inject(kept)
    try:
        return model(**inputs)
    finally:
        injector.inject(None)


def _is_alike(own: Any, fed: Any, token_mask: Tensor, tolerance: float) -> bool:
    try:
        _compare(own, fed, token_mask, tolerance)
    except NotCacheable:
        return False
    return True


def _compare(own: Any, fed: Any, token_mask: Tensor, tolerance: float) -> None:
    for name, value in own.items():
        if not hasattr(value, "is_floating_point") or not value.is_floating_point():
            continue
        other = fed[name]
        if value.shape[:2] == token_mask.shape:
            value, other = value[token_mask], other[token_mask]
        if not bool((value - other).abs().max() <= tolerance * value.abs().max()):
            raise NotCacheable(f"its {name} differ when the outputs of its lowest layers are given")
