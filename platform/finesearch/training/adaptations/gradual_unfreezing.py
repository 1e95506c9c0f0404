"""Gradual unfreezing: training starts with the head, and layer after layer joins from the top.

What joins later is in the optimizer from the start, so that every ZeRO stage and every checkpoint knows it. Until its
time a hook makes its gradients 0 (the clipped norm is that of the rest) and its learning rate is 0; when it joins, what
the optimizer remembers of it is forgotten. From then on it trains as if it had just been given to the optimizer.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING

from finesearch.training.adaptations.adaptation import Adaptation, Parameters, Setting
from finesearch.training.model.layer_depths import check_depths, parameter_depths

if TYPE_CHECKING:
    from transformers import PreTrainedModel


from finesearch.training.adaptations.unfreezing_schedule import Unfreezing


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
