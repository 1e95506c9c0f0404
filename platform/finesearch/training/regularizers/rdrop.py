"""R-Drop: penalises the KL divergence between two passes with different dropout."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import torch

from finesearch.training.regularizers.regularizer import Regularizer, RegularizerContext

if TYPE_CHECKING:
    from finesearch.tasks import Task


class RDrop(Regularizer):
    """``(loss₁ + loss₂) / 2 + rdrop · (KL(p₁ ‖ p₂) + KL(p₂ ‖ p₁)) / 2`` of two passes over the same rows.

    Liang, Wu et al., R-Drop: Regularized Dropout for Neural Networks, NeurIPS 2021, with the factors of the
    authors' example code. Both passes are one forward pass over the doubled batch, so a step takes about twice the time
    and memory.
    """

    name: ClassVar[str] = "rdrop"

    def attach(self, context: RegularizerContext) -> None:
        if not any(_is_random(module) for module in context.model.modules()):
            self.inactive_reason = "no dropout is on in what trains, so that both passes are the same"

    def losses(
        self,
        forward: Callable[..., Any],
        task: Task,
        inputs: Mapping[str, torch.Tensor],
        batch: Mapping[str, torch.Tensor],
        label_smoothing: float,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The total loss and the task's own loss; means over the batch's units, scalars."""
        twice = {
            name: torch.cat([value, value]) if isinstance(value, torch.Tensor) else value
            for name, value in inputs.items()
        }
        outputs = forward(**twice)
        rows = next(iter(inputs.values())).shape[0]
        one, other = halves(outputs, rows)
        own = (task.loss(one, batch, label_smoothing) + task.loss(other, batch, label_smoothing)) / 2
        return own + self.strength * task.divergence(one, other, batch), own


def halves(outputs: Any, rows: int) -> tuple[Any, Any]:
    """The model's outputs for the first and for the second copy of the rows; outputs without a row axis are dropped."""
    tensors = {
        name: value
        for name, value in outputs.items()
        if isinstance(value, torch.Tensor) and value.ndim and value.shape[0] == 2 * rows
    }
    kind = type(outputs)
    return (
        kind(**{name: value[:rows] for name, value in tensors.items()}),
        kind(**{name: value[rows:] for name, value in tensors.items()}),
    )


def _is_random(module: torch.nn.Module) -> bool:
    # Some architectures store the attention dropout as a number.
    probabilities = [getattr(module, name, None) for name in ("p", "attention_dropout", "dropout_prob", "dropout")]
    return module.training and any(isinstance(p, float) and p > 0 for p in probabilities)
