"""Gradual unfreezing: training starts with the head, and layer after layer joins from the top.

What joins later is in the optimizer from the start, so that every ZeRO stage and every checkpoint knows it. Until its
time a hook makes its gradients 0 (the clipped norm is that of the rest) and its learning rate is 0; when it joins, what
the optimizer remembers of it is forgotten. From then on it trains as if it had just been given to the optimizer.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from finesearch.training.adaptations.base import Adaptation, Parameters, Setting
from finesearch.training.adaptations.quiet import Quiet, keep_quiet, quiet_modules
from finesearch.training.depths import check_depths, parameter_depths

if TYPE_CHECKING:
    from deepspeed import DeepSpeedEngine
    from torch import Tensor
    from transformers import PreTrainedModel

    from finesearch.training.anatomy import Anatomy


class GradualUnfreezing(Adaptation):
    """The head is trained from the start, one more layer from the top after each ``every_steps`` optimizer steps.

    Without ``every_steps`` it is after each share ``every_fraction`` of all steps, rounded up. The embeddings come
    last; what would join after the last step is frozen. Howard and Ruder, Universal Language Model Fine-tuning for
    Text Classification, 2018.
    """

    name = "gradual_unfreezing"

    def check(self, model: PreTrainedModel, parameters: Parameters) -> None:
        check_depths(f"adaptation {self.name}", model)

    def trained(self, model: PreTrainedModel, parameters: Parameters, setting: Setting) -> Iterable[str]:
        depths = parameter_depths(model, setting.anatomy, setting.fresh)
        deepest = (setting.steps - 1) // steps_between(parameters, setting.steps)
        return {name for name, depth in depths.items() if depth <= deepest}

    def unfreezing(self, model: PreTrainedModel, parameters: Parameters, setting: Setting) -> Unfreezing:
        depths = parameter_depths(model, setting.anatomy, setting.fresh)
        return Unfreezing(model, setting.anatomy, depths, steps_between(parameters, setting.steps))

    def notes(self, model: PreTrainedModel, parameters: Parameters, setting: Setting) -> tuple[str, ...]:
        every, levels = steps_between(parameters, setting.steps), len(setting.anatomy.blocks) + 1
        reached = (setting.steps - 1) // every
        if reached >= levels:
            return ()
        return (
            f"gradual_unfreezing: with {setting.steps} steps and one more layer every {every}, {levels - reached} of "
            f"{levels} layers (the embeddings counted as one) stayed frozen to the end.",
        )


def steps_between(parameters: Parameters, steps: int) -> int:
    """Optimizer steps after which one more layer joins.

    >>> steps_between({"every_steps": None, "every_fraction": 0.1}, 45)
    5
    """
    every: int | None = parameters["every_steps"]
    return every if every is not None else math.ceil(parameters["every_fraction"] * steps)


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
        from finesearch.training.optimizer_state import forget_optimizer_state

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
