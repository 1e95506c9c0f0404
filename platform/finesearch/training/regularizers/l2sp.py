"""L2-SP: weight decay towards the pretrained weights instead of towards zero."""

from __future__ import annotations

from typing import ClassVar

import torch

from finesearch.training.regularizers.regularizer import Regularizer, RegularizerContext


class L2SP(Regularizer):
    """``w ← w − learning_rate · l2sp · (w − w⁰)`` before each update, for every trained weight that the base had.

    Li, Grandvalet and Davoine, Explicit Inductive Bias for Transfer Learning with Convolutional Networks, ICML 2018:
    the step of their penalty ``l2sp / 2 · ‖w − w⁰‖²`` under plain gradient descent. Decoupled, like the weight decay
    here, so that neither clipping nor the moments of an adaptive optimizer distort it. Weights without a pretrained
    value (the new output layer) are left to ``weight_decay``, the second term of the paper.
    """

    name: ClassVar[str] = "l2sp"

    def attach(self, context: RegularizerContext) -> None:
        self._rate = 0.0
        self._weights = {
            name: parameter
            for name, parameter in context.model.named_parameters()
            if parameter.requires_grad and name in context.pretrained
        }
        self._start = {name: context.pretrained[name] for name in self._weights}
        if not self._weights:
            self.inactive_reason = "no weight that trains has a pretrained value"

    def before_step(self, step: int, learning_rate: float) -> None:
        self._rate = learning_rate * self.strength

    @torch.no_grad()
    def before_update(self) -> None:
        from deepspeed.utils import safe_set_full_fp32_param

        for name, weight in self._weights.items():
            start = self._start[name] = self._start[name].to(weight.device)
            pulled = torch.lerp(weight, start, self._rate)
            if hasattr(weight, "_hp_mapping"):
                # ZeRO 1 and 2 update an fp32 copy, of which this process holds a partition, and share it afterwards.
                safe_set_full_fp32_param(weight, pulled)
            else:
                weight.copy_(pulled)
