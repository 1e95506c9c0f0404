"""Weight averaging: averaged weights are scored and saved instead of the raw weights, which continue to train.

finesearch.training.checkpointing writes the averaged weights as the checkpoint and the raw ones into resume/, so that
a resumed trial has both again.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch

from finesearch.training.regularizers.regularizer import Regularizer, RegularizerContext

RAW = "raw.safetensors"
"""File with the raw weights beside the optimizer state, if ``model.safetensors`` holds averaged ones."""


class WeightAverage(Regularizer):
    """A running average of every trained weight, the same on every rank: fp32, as large as the weights themselves."""

    def attach(self, context: RegularizerContext) -> None:
        self._weights = {name: p for name, p in context.model.named_parameters() if p.requires_grad}
        self._average: dict[str, torch.Tensor] = {}
        self.raw: Mapping[str, torch.Tensor] | None = None
        """The raw weights while the model holds the averaged ones, else None."""

    @property
    def has_begun(self) -> bool:
        return bool(self._average)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """The model holds the averaged weights inside the block, and the raw ones again after it."""
        if not self.has_begun:
            yield
            return
        self.raw = self._copies()
        self._put(self._average)
        try:
            yield
        finally:
            self._put(self.raw)
            self.raw = None

    def resume_from(self, average: Mapping[str, torch.Tensor]) -> None:
        """Restore the average from a checkpoint."""
        self._average = {name: average[name].to(weight.device) for name, weight in self._weights.items()}

    def _begin(self) -> None:
        self._average = self._copies()

    def _move(self, share: float) -> None:
        """Move the average by ``share`` of the distance to the current weights."""
        torch._foreach_lerp_(list(self._average.values()), [w.detach() for w in self._weights.values()], share)

    def _copies(self) -> dict[str, torch.Tensor]:
        return {name: weight.detach().clone() for name, weight in self._weights.items()}

    @torch.no_grad()
    def _put(self, tensors: Mapping[str, torch.Tensor]) -> None:
        for name, weight in self._weights.items():
            weight.copy_(tensors[name])

    @abstractmethod
    def after_step(self, step: int, steps: int) -> None: ...
