"""The blocks of a model from its bottom: what each returns, and passes that go no further up than they must.

Nothing is known of architectures. A block is taken for what it shows when a batch runs through it: hidden states go in
and come out, alone or at the head of a tuple with nothing else in it. Whatever else a model hands from block to block
(T5's position bias, keys and values that layers share) would be lost, so such a model is refused.
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
"""Form of a block that returns a tensor; other forms count the empty places behind it in a tuple."""


class NotCacheable(Exception):  # noqa: N818 - told in a note: the trial computes everything itself
    """Why outputs of this model cannot be kept."""


class _Reached(Exception):  # noqa: N818 - ends a pass that has gone far enough
    pass


@dataclass(frozen=True)
class BlockStack:
    """One list of blocks in the order in which they run.

    first: number of blocks that run before it. reads_target: its positions are those of ``decoder_input_ids``.
    """

    blocks: tuple[str, ...]
    first: int
    reads_target: bool

    @property
    def last(self) -> int:
        """The depth above the whole stack."""
        return self.first + len(self.blocks)


def stacks_of(structure: ModuleStructure, is_encoder_decoder: bool, has_target: bool) -> tuple[BlockStack, ...]:
    """The lists of blocks, one after the other.

    has_target: whether rows bring ``decoder_input_ids``; where they do not (an encoder-decoder that classifies), both
    stacks read the same text.

    Raises:
        NotCacheable: blocks of several lists take turns.
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
    """What must be given for the blocks below ``depth`` to be left out: the end of each stack below it, and itself.

    >>> stacks = (BlockStack(("e.0", "e.1"), 0, False), BlockStack(("d.0", "d.1"), 2, True))
    >>> required_depths(stacks, 1), required_depths(stacks, 3)
    ((1,), (2, 3))
    """
    return tuple(min(stack.last, depth) for stack in stacks if stack.first < depth)


def capture(
    model: PreTrainedModel, structure: ModuleStructure, inputs: Mapping[str, Any], cache_depths: Collection[int]
) -> dict[int, tuple[Tensor, int]]:
    """What the blocks below each of ``cache_depths`` return for a batch, and the form in which they do; no gradients.

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
    """Puts given outputs in the place of a model's lowest blocks, for as long as there are some; see ``inject``.

    forms: depth -> form of the block below it, see ``capture``. bypassed_modules: modules that are left out as well
    while outputs are given, and the type of what they return, see ``bypassed_modules``. With nothing given the model
    runs as it always does.
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

        # On the instance: names, hooks and attributes of the block stay what they are.
        block.forward = forward

    def _leave_out(self, module: Any, name: str, depth: int) -> None:
        plain = module.forward

        def forward(*args: Any, **named: Any) -> Any:
            if self._given is None or name not in self.bypassed_modules:
                return plain(*args, **named)
            rows = next(len(each) for each in (*args, *named.values()) if hasattr(each, "shape"))
            given = self._given[depth]
            # Nobody looks at it; whoever did would notice.
            return given.new_full((rows, *given.shape[1:]), nan, dtype=self.bypassed_modules[name])

        module.forward = forward


def blocks_below(structure: ModuleStructure, cache_depths: Collection[int]) -> list[tuple[int, int]]:
    """For each block that is left out, the depth whose output is given for it and its own number from 0.

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
