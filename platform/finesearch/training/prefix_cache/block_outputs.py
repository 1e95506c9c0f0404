"""Captures the outputs of a model's bottom blocks, and injects cached outputs in their place.

No architecture is treated specially. A block's format is observed while a batch runs through it: hidden states go in
and come out, alone or as the first element of an otherwise empty tuple. Anything else that a model passes from block to
block (T5's position bias, keys and values that layers share) would be lost, so such a model is not cacheable.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass
from math import nan
from typing import TYPE_CHECKING, Any

from finesearch.training.model.module_structure import ModuleStructure

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn
    from transformers import PreTrainedModel

BARE_TENSOR = -1
"""Form of a block that returns a tensor; other forms count the empty tuple elements after it."""


class NotCacheable(Exception):  # noqa: N818 - reported in a note: the trial computes everything itself
    """Why outputs of this model cannot be cached."""


class _Reached(Exception):  # noqa: N818 - ends a forward pass at the highest depth needed
    pass


@dataclass(frozen=True)
class BlockStack:
    """One list of blocks in execution order.

    first: number of blocks that run before it. reads_target: its positions are those of ``decoder_input_ids``.
    """

    blocks: tuple[str, ...]
    first: int
    reads_target: bool

    @property
    def last(self) -> int:
        """The depth of the stack's last block."""
        return self.first + len(self.blocks)


def stacks_of(structure: ModuleStructure, is_encoder_decoder: bool, has_target: bool) -> tuple[BlockStack, ...]:
    """The lists of blocks in execution order.

    has_target: whether rows contain ``decoder_input_ids``; if not (an encoder-decoder that classifies), both stacks
    read the same text.

    Raises:
        NotCacheable: blocks of several lists alternate.
    """
    stacks: list[BlockStack] = []
    for number, name in enumerate(structure.blocks):
        home = name.rpartition(".")[0]
        if stacks and stacks[-1].blocks[0].rpartition(".")[0] == home:
            stacks[-1] = BlockStack((*stacks[-1].blocks, name), stacks[-1].first, stacks[-1].reads_target)
        else:
            stacks.append(BlockStack((name,), number, reads_target=has_target and bool(stacks)))
    if len({stack.blocks[0].rpartition(".")[0] for stack in stacks}) < len(stacks):
        raise NotCacheable("blocks of several lists take turns")
    if len(stacks) > (2 if is_encoder_decoder else 1):
        raise NotCacheable(f"there are {len(stacks)} lists of blocks")
    return tuple(stacks)


def required_depths(stacks: Collection[BlockStack], depth: int) -> tuple[int, ...]:
    """Depths whose outputs are needed to skip the blocks below ``depth``: the end of each stack below it, and itself.

    >>> stacks = (BlockStack(("e.0", "e.1"), 0, False), BlockStack(("d.0", "d.1"), 2, True))
    >>> required_depths(stacks, 1), required_depths(stacks, 3)
    ((1,), (2, 3))
    """
    return tuple(min(stack.last, depth) for stack in stacks if stack.first < depth)


def capture(
    model: PreTrainedModel, structure: ModuleStructure, inputs: Mapping[str, Any], cache_depths: Collection[int]
) -> dict[int, tuple[Tensor, int]]:
    """Outputs of a batch at each of ``cache_depths``, with the form in which the block returned them; no gradients.

    Nothing above the highest depth is computed. The model should be in eval mode.

    Raises:
        NotCacheable: a block takes or returns something other than hidden states (B, T, d).
    """
    import torch

    found: dict[int, tuple[Tensor, int]] = {}
    highest = max(cache_depths)

    def hook(depth: int) -> Callable[..., None]:
        def note(block: nn.Module, args: tuple[Any, ...], named: dict[str, Any], output: Any) -> None:
            hidden = args[0] if args else named.get("hidden_states")
            found[depth] = _read(block, hidden, output)
            if depth == highest:
                raise _Reached

        return note

    handles = [
        model.get_submodule(structure.blocks[depth - 1]).register_forward_hook(hook(depth), with_kwargs=True)
        for depth in cache_depths
    ]
    try:
        with torch.no_grad(), suppress(_Reached):
            model(**inputs)
    finally:
        for handle in handles:
            handle.remove()
    return found


def _read(block: nn.Module, hidden: Any, output: Any) -> tuple[Tensor, int]:
    from torch import Tensor

    first, *beside = output if isinstance(output, tuple) else (output,)
    if not isinstance(hidden, Tensor) or not isinstance(first, Tensor):
        raise NotCacheable(f"its layers ({type(block).__name__}) do not take and return hidden states")
    if first.shape != hidden.shape or first.ndim != 3:
        raise NotCacheable(f"its layers ({type(block).__name__}) change the shape of hidden states")
    if any(other is not None for other in beside):
        raise NotCacheable(f"its layers ({type(block).__name__}) hand on more than hidden states")
    return first, len(beside) if isinstance(output, tuple) else BARE_TENSOR


class OutputInjector:
    """Replaces the computation of a model's lowest blocks by given outputs; see ``inject``.

    forms: depth -> form of the block below it, see ``capture``. bypassed_modules: modules that are skipped as well
    while outputs are injected, with the type of their output, see ``bypassed_modules``. Without injected outputs the
    model runs as usual.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        structure: ModuleStructure,
        cache_depths: Collection[int],
        forms: Mapping[int, int],
        bypassed_modules: Mapping[str, torch.dtype] | None = None,
    ):
        self._given: dict[int, Tensor] | None = None
        self.bypassed_modules = dict(bypassed_modules or {})
        for depth, number in blocks_below(structure, cache_depths):
            block = model.get_submodule(structure.blocks[number])
            self._wrap(block, depth if number == depth - 1 else None, forms[depth])
        for name in self.bypassed_modules:
            self._leave_out(model.get_submodule(name), name, min(cache_depths))

    def inject(self, hidden: Mapping[int, Tensor] | None) -> None:
        """From now on the block below each depth returns ``hidden[depth]`` (B, T, d); None: all compute again."""
        self._given = None if hidden is None else dict(hidden)

    def _wrap(self, block: Any, depth: int | None, form: int) -> None:
        plain = block.forward

        def forward(*args: Any, **named: Any) -> Any:
            if self._given is None:
                return plain(*args, **named)
            passed = args[0] if args else named["hidden_states"]
            if depth is not None:
                passed = _repeated(self._given[depth], len(passed))
            return passed if form == BARE_TENSOR else (passed, *[None] * form)

        # Patched on the instance, so that the block's names, hooks and attributes stay the same.
        block.forward = forward

    def _leave_out(self, module: Any, name: str, depth: int) -> None:
        plain = module.forward

        def forward(*args: Any, **named: Any) -> Any:
            if self._given is None or name not in self.bypassed_modules:
                return plain(*args, **named)
            rows = next(len(each) for each in (*args, *named.values()) if hasattr(each, "shape"))
            given = self._given[depth]
            # Nothing should read this output; NaN makes it visible if something does.
            return given.new_full((rows, *given.shape[1:]), nan, dtype=self.bypassed_modules[name])

        module.forward = forward


def blocks_below(structure: ModuleStructure, cache_depths: Collection[int]) -> list[tuple[int, int]]:
    """For each skipped block, the depth whose output replaces it, and its own index from 0.

    >>> blocks_below(ModuleStructure("", ("e.0", "e.1", "d.0", "d.1"), {}, ()), cache_depths=(2, 3))
    [(2, 0), (2, 1), (3, 2)]
    """
    found, start = [], 0
    for depth in sorted(cache_depths):
        found += [(depth, number) for number in range(start, depth)]
        start = depth
    return found


def _repeated(hidden: Tensor, rows: int) -> Tensor:
    """R-Drop passes every row twice."""
    import torch

    return hidden if len(hidden) == rows else torch.cat([hidden] * (rows // len(hidden)))
