"""The interface of every regularizer.

    attach            before DeepSpeed wraps the model: modify the model
    before_step       before the forward passes of a step: draw the step's random numbers
    before_update     the gradient of the global batch is complete, the weights are not yet updated
    after_step        the weights are updated

A method draws random numbers from its own seed for every step, so that a resumed trial draws what the interrupted one
would have drawn. No method changes frozen parts: modules that stay in eval mode run as they are, and tensors that do
not train are not touched.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import torch

from finesearch.training.runtime.seeding import derived_seed

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from finesearch.plan import Recipe
    from finesearch.training.model.module_structure import ModuleStructure


@dataclass(frozen=True, eq=False, kw_only=True)
class RegularizerContext:
    """One trial's adapted model in training mode, with all that a method may need to know about it.

    pretrained: the base's tensors by their names in the model, fp32, on the CPU. example: inputs of one short row.
    """

    model: PreTrainedModel
    structure: ModuleStructure
    pretrained: Mapping[str, torch.Tensor]
    example: Mapping[str, torch.Tensor]
    recipe: Recipe
    seed: int
    rank: int

    @property
    def architecture(self) -> str:
        return type(self.model).__name__


class Regularizer(ABC):
    """One method applied to one trial.

    ``name`` is its parameter in the plan. ``inactive_reason`` says why it has no effect here; None if it has one.
    """

    name: ClassVar[str]

    def __init__(self, strength: float, context: RegularizerContext) -> None:
        self.strength = strength
        self.inactive_reason: str | None = None
        self._seed, self._rank, self._step = context.seed, context.rank, 0
        self._generators: dict[torch.device, torch.Generator] = {}
        self.attach(context)

    @abstractmethod
    def attach(self, context: RegularizerContext) -> None:
        """Apply the method to the model.

        Raises:
            ModelError: the architecture does not allow it.
        """

    def before_step(self, step: int, learning_rate: float) -> None:
        """Optimizer step ``step`` (0-based) is next."""
        self._step = step
        self._generators.clear()

    def before_update(self) -> None:  # noqa: B027 - most methods have nothing to do here
        """The step's gradient is complete."""

    def after_step(self, step: int, steps: int) -> None:  # noqa: B027 - nor here
        """Optimizer step ``step`` of ``steps`` is done."""

    def generator(self, device: torch.device) -> torch.Generator:
        """A generator on ``device``, seeded for this step, method and rank."""
        if device not in self._generators:
            seed = derived_seed(self._seed, self.name, self._rank, self._step)
            self._generators[device] = torch.Generator(device).manual_seed(seed)
        return self._generators[device]
