"""Which layers train at which step, where they join one after another."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from finesearch.training.adaptations.frozen_dropout import Quiet, keep_quiet, quiet_modules

if TYPE_CHECKING:
    from deepspeed import DeepSpeedEngine
    from torch import Tensor
    from transformers import PreTrainedModel

    from finesearch.training.model.module_structure import Anatomy


class Unfreezing:
    """How far a model is unfrozen; ``enter`` moves it on. Made before the engine, which it acts on later."""

    def __init__(self, model: PreTrainedModel, anatomy: Anatomy, depths: Mapping[str, int], every_steps: int) -> None:
        self.model = model
        self.anatomy = anatomy
        self.depths = depths
        self.every_steps = every_steps
        self.deepest = 0
        self._quiet: dict[int, Quiet] = {}
        for name, parameter in model.named_parameters():
            if parameter.requires_grad and depths[name] > 0:
                parameter.register_hook(self._held_back(depths[name]))  # type: ignore[no-untyped-call]
        keep_quiet(model, self.quiet)

    def enter(self, step: int, engine: DeepSpeedEngine) -> None:
        """Make ready for optimizer step ``step`` (0-based), once the learning rates of all groups are set."""
        # Imported here, because the driver looks at adaptations without torch.
        from finesearch.training.runtime.optimizer_state import forget_optimizer_state

        deepest = step // self.every_steps
        if deepest != self.deepest:
            self.deepest = deepest
            # Dropout is on in what has joined.
            self.model.train(self.model.training)
        if step == deepest * self.every_steps:
            forget_optimizer_state(engine, lambda group: group["depth"] == deepest > 0)
        for group in engine.optimizer.param_groups:
            if group["depth"] > self.deepest:
                group["lr"] = 0.0

    def quiet(self) -> Quiet:
        """What runs without dropout now."""
        if self.deepest not in self._quiet:
            trained = {name for name, depth in self.depths.items() if depth <= self.deepest}
            trained &= {name for name, parameter in self.model.named_parameters() if parameter.requires_grad}
            self._quiet[self.deepest] = quiet_modules(self.model, self.anatomy, trained)
        return self._quiet[self.deepest]

    def _held_back(self, depth: int) -> Any:
        def hook(gradient: Tensor) -> Tensor:
            return gradient if depth <= self.deepest else gradient.new_zeros(gradient.shape)

        return hook
