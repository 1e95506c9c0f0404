"""The schedule of gradual unfreezing: which layers train at which step."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from finesearch.training.adaptations.frozen_dropout import FrozenDropout, apply_frozen_dropout, find_frozen_dropout

if TYPE_CHECKING:
    from deepspeed import DeepSpeedEngine
    from torch import Tensor
    from transformers import PreTrainedModel

    from finesearch.training.model.module_structure import ModuleStructure


class UnfreezingSchedule:
    """How far a model is unfrozen; ``begin_step`` advances it. Created before the engine, which it acts on later."""

    def __init__(
        self, model: PreTrainedModel, structure: ModuleStructure, depths: Mapping[str, int], every_steps: int
    ) -> None:
        self.model = model
        self.structure = structure
        self.depths = depths
        self.every_steps = every_steps
        self.deepest = 0
        self._quiet: dict[int, FrozenDropout] = {}
        for name, parameter in model.named_parameters():
            if parameter.requires_grad and depths[name] > 0:
                parameter.register_hook(self._held_back(depths[name]))  # type: ignore[no-untyped-call]
        apply_frozen_dropout(model, self.frozen_dropout)

    def begin_step(self, step: int, engine: DeepSpeedEngine) -> None:
        """Prepare optimizer step ``step`` (0-based), after the learning rates of all groups are set."""
        # Imported here, because the driver inspects adaptations without torch.
        from finesearch.training.runtime.optimizer_state import reset_optimizer_state

        deepest = step // self.every_steps
        if deepest != self.deepest:
            self.deepest = deepest
            # Unfrozen layers use dropout.
            self.model.train(self.model.training)
        if step == deepest * self.every_steps:
            reset_optimizer_state(engine, lambda group: group["depth"] == deepest > 0)
        for group in engine.optimizer.param_groups:
            if group["depth"] > self.deepest:
                group["lr"] = 0.0

    def frozen_dropout(self) -> FrozenDropout:
        """The modules that currently run without dropout."""
        if self.deepest not in self._quiet:
            trained = {name for name, depth in self.depths.items() if depth <= self.deepest}
            trained &= {name for name, parameter in self.model.named_parameters() if parameter.requires_grad}
            self._quiet[self.deepest] = find_frozen_dropout(self.model, self.structure, trained)
        return self._quiet[self.deepest]

    def _held_back(self, depth: int) -> Any:
        def hook(gradient: Tensor) -> Tensor:
            return gradient if depth <= self.deepest else gradient.new_zeros(gradient.shape)

        return hook
