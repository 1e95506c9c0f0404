"""Gradual unfreezing: training starts with the head, and layer after layer joins from the top.

What joins later is in the optimizer from the start, so that every ZeRO stage and every checkpoint knows it. Until its
time a hook makes its gradients 0 (the clipped norm is that of the rest) and its learning rate is 0; when it joins, what
the optimizer remembers of it is forgotten. From then on it trains as if it had just been given to the optimizer.
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

    Without ``every_steps`` it is after each share ``every_fraction`` of all steps, rounded up. The embeddings come
    last; what would join after the last step is frozen. Howard and Ruder, Universal Language Model Fine-tuning for
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
    """Optimizer steps after which one more layer joins.

    >>> steps_between({"every_steps": None, "every_fraction": 0.1}, 45)
    5
    """
    every: int | None = parameters["every_steps"]
    return every if every is not None else math.ceil(parameters["every_fraction"] * steps)
