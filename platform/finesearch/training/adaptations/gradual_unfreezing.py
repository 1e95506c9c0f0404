"""Gradual unfreezing: training starts with the head, and layers are unfrozen one by one from the top.

All layers are in the optimizer from the start, so that every ZeRO stage and every checkpoint includes them. While a
layer is frozen, a hook sets its gradients to 0 (excluding them from the clipped norm), and its learning rate is 0. When
it is unfrozen, its optimizer state is cleared, so that it trains as if it had just been added to the optimizer.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING

from finesearch.training.adaptations.adaptation import Adaptation, AdaptationContext, Parameters
from finesearch.training.model.layer_depths import check_depths, parameter_depths

if TYPE_CHECKING:
    from transformers import PreTrainedModel


from finesearch.training.adaptations.unfreezing_schedule import UnfreezingSchedule


class GradualUnfreezing(Adaptation):
    """The head is trained from the start, one more layer from the top after each ``every_steps`` optimizer steps.

    Without ``every_steps``, the interval is the fraction ``every_fraction`` of all steps, rounded up. The embeddings
    come last; layers due after the last step stay frozen. Howard and Ruder, Universal Language Model Fine-tuning for
    Text Classification, 2018.
    """

    name = "gradual_unfreezing"

    def check(self, model: PreTrainedModel, parameters: Parameters) -> None:
        check_depths(f"adaptation {self.name}", model)

    def trained(self, model: PreTrainedModel, parameters: Parameters, context: AdaptationContext) -> Iterable[str]:
        depths = parameter_depths(model, context.structure, context.fresh)
        deepest = (context.steps - 1) // steps_between(parameters, context.steps)
        return {name for name, depth in depths.items() if depth <= deepest}

    def unfreezing(
        self, model: PreTrainedModel, parameters: Parameters, context: AdaptationContext
    ) -> UnfreezingSchedule:
        depths = parameter_depths(model, context.structure, context.fresh)
        return UnfreezingSchedule(model, context.structure, depths, steps_between(parameters, context.steps))

    def notes(self, model: PreTrainedModel, parameters: Parameters, context: AdaptationContext) -> tuple[str, ...]:
        every, levels = steps_between(parameters, context.steps), len(context.structure.blocks) + 1
        reached = (context.steps - 1) // every
        if reached >= levels:
            return ()
        return (
            f"gradual_unfreezing: with {context.steps} steps and one more layer every {every}, {levels - reached} of "
            f"{levels} layers (the embeddings counted as one) stayed frozen to the end.",
        )


def steps_between(parameters: Parameters, steps: int) -> int:
    """Optimizer steps between unfreezing two layers.

    >>> steps_between({"every_steps": None, "every_fraction": 0.1}, 45)
    5
    """
    every: int | None = parameters["every_steps"]
    return every if every is not None else math.ceil(parameters["every_fraction"] * steps)
