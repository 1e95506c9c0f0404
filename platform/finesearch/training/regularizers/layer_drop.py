"""LayerDrop (stochastic depth): in each training step, some whole blocks are skipped."""

from __future__ import annotations

import random
from typing import Any, ClassVar

import torch

from finesearch.errors import ModelError
from finesearch.training.regularizers.regularizer import Regularizer, RegularizerContext
from finesearch.training.runtime.seeding import derived_seed


class LayerDrop(Regularizer):
    """Each trained block is skipped in a step with probability ``layer_drop``; evaluation runs all of them.

    Fan, Grave and Joulin, Reducing Transformer Depth on Demand with Structured Dropout, ICLR 2020; for residual
    networks Huang et al., Deep Networks with Stochastic Depth, ECCV 2016. As in the former, nothing is scaled. One draw
    holds for the whole global batch, so that its loss is the mean over one network, however the batch is partitioned.
    Skipped blocks get a gradient of 0, the same on every rank and under every ZeRO stage.
    """

    name: ClassVar[str] = "layer_drop"

    def attach(self, context: RegularizerContext) -> None:
        self._dropped: tuple[bool, ...] = ()
        if not context.structure.blocks:
            raise ModelError(
                f"layer_drop: {context.architecture} shares one block among all of its layers, so that none can be "
                "left "
                f"out alone. Leave layer_drop out of the space."
            )
        blocks = [context.model.get_submodule(name) for name in context.structure.blocks]
        trained = [block for block in blocks if block.training and any(p.requires_grad for p in block.parameters())]
        if not trained:
            self.inactive_reason = "every block is frozen, and frozen blocks always run"
            return
        self._count = len(trained)
        forms = outputs_of(context, trained)
        for index, (block, form) in enumerate(zip(trained, forms, strict=True)):
            self._wrap(block, index, form)

    def before_step(self, step: int, learning_rate: float) -> None:
        if not self.inactive_reason:
            # The seed excludes the rank: every rank trains the same network.
            draw = random.Random(derived_seed(self._seed, self.name, step))
            self._dropped = tuple(draw.random() < self.strength for _ in range(self._count))

    def _wrap(self, block: Any, index: int, beside: int | None) -> None:
        plain = block.forward

        def forward(*inputs: Any, **named: Any) -> Any:
            if not block.training or not self._dropped or not self._dropped[index]:
                return plain(*inputs, **named)
            hidden = inputs[0] if inputs else named["hidden_states"]
            trained = [parameter for parameter in block.parameters() if parameter.requires_grad]
            passed = _Skip.apply(hidden, *trained)  # type: ignore[no-untyped-call]
            return passed if beside is None else (passed, *[None] * beside)

        block.forward = forward


class _Skip(torch.autograd.Function):
    """Returns the hidden states unchanged, with a gradient of 0 for the unused parameters."""

    @staticmethod
    def forward(ctx: Any, hidden: torch.Tensor, *parameters: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(*parameters)
        return hidden.view_as(hidden)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return (gradients[0], *(torch.zeros_like(parameter) for parameter in ctx.saved_tensors))


def outputs_of(context: RegularizerContext, blocks: list[torch.nn.Module]) -> list[int | None]:
    """What each block returns for one example: a tensor (None), or a tuple with this many empty elements after it.

    Raises:
        ModelError: a block does not map hidden states to hidden states of the same shape, or returns more.
    """
    forms: dict[int, int | None] = {}

    def look(block: torch.nn.Module, inputs: Any, named: Any, output: Any) -> None:
        hidden = inputs[0] if inputs else named.get("hidden_states")
        first, *beside = output if isinstance(output, tuple) else (output,)
        is_residual = isinstance(hidden, torch.Tensor) and isinstance(first, torch.Tensor)
        if not is_residual or first.shape != hidden.shape or any(other is not None for other in beside):
            raise ModelError(
                f"layer_drop: a block of {context.architecture} ({type(block).__name__}) hands on more than hidden "
                f"states of one shape, so that it cannot be left out. Leave layer_drop out of the space."
            )
        forms[id(block)] = len(beside) if isinstance(output, tuple) else None

    handles = [block.register_forward_hook(look, with_kwargs=True) for block in blocks]
    try:
        context.model.train(False)
        with torch.no_grad():
            context.model(**context.example)
    finally:
        context.model.train()
        for handle in handles:
            handle.remove()
    return [forms[id(block)] for block in blocks]
