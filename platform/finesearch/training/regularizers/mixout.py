"""Mixout: in each forward pass, random weights are replaced by those of the pretrained model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import torch

from finesearch.training.regularizers.regularizer import Regularizer, RegularizerContext


class Mixout(Regularizer):
    """Each weight of a trained matrix takes its pretrained value with probability ``mixout``, in every forward pass.

    ``(m ⊙ w⁰ + (1 − m) ⊙ w − mixout · w⁰) / (1 − mixout)`` with ``m ~ Bernoulli(mixout)``, whose mean is ``w``. Lee,
    Cho and Kang, Mixout: Effective Regularization to Finetune Large-scale Pretrained Language Models, ICLR 2020. As in
    the authors' code: matrices of linear layers that the base had, not biases, norms and embeddings. Their code also
    sets dropout to 0; here ``dropout`` is a separate parameter.
    """

    name: ClassVar[str] = "mixout"

    def attach(self, context: RegularizerContext) -> None:
        from transformers.pytorch_utils import Conv1D

        embeddings = context.model.get_input_embeddings().weight
        count = 0
        for name, module in context.model.named_modules():
            is_linear = isinstance(module, torch.nn.Linear | Conv1D)
            if not is_linear or not module.weight.requires_grad or module.weight is embeddings:
                continue
            if (start := context.pretrained.get(f"{name}.weight")) is not None:
                self._mix(module, start)
                count += 1
        if not count:
            self.inactive_reason = "no matrix that trains has a pretrained value"

    def _mix(self, module: Any, start: torch.Tensor) -> None:
        plain: Callable[[torch.Tensor], torch.Tensor] = module.forward
        turned = not isinstance(module, torch.nn.Linear)
        held = start

        def forward(inputs: torch.Tensor) -> torch.Tensor:
            nonlocal held
            if not module.training:
                return plain(inputs)
            held = held.to(module.weight.device)
            weight = mixed(module.weight, held, self.strength, self.generator(held.device))
            # GPT-2's Conv1D stores its matrix transposed.
            return torch.nn.functional.linear(inputs, weight.T if turned else weight, module.bias)

        module.forward = forward


def mixed(
    weight: torch.Tensor, start: torch.Tensor, probability: float, generator: torch.Generator | None = None
) -> torch.Tensor:
    """``weight`` with a random share of its elements replaced by those of ``start``, and corrected to keep the mean.

    >>> mixed(torch.ones(3), torch.zeros(3), 0.0)
    tensor([1., 1., 1.])
    """
    kept = torch.empty_like(start).bernoulli_(1.0 - probability, generator=generator).div_(1.0 - probability)
    # The formula above, simplified: start + (1 - m) (weight - start) / (1 - probability).
    return torch.addcmul(start, kept, weight - start)
