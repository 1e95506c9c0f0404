"""AdamW, SGD, Adafactor and Lion by library implementations, with decoupled weight decay that spares biases and norms.

All are torch optimizers, handed to DeepSpeed. Adafactor is torch's own (kept with torch, decay decoupled as in the
others, no schedule of its own to switch off); Lion is lion-pytorch's, since DeepSpeed's needs a CUDA compiler.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from finesearch.plan import Recipe


class DecoupledSGD(torch.optim.SGD):
    """SGD whose weight decay shrinks the weights directly and does not pass through the momentum.

    Loshchilov and Hutter, Decoupled Weight Decay Regularization, 2019 (algorithm 1). With momentum this is not the
    ``weight_decay`` of ``torch.optim.SGD``, which adds the decay to the gradient. Group key:
    ``decoupled_weight_decay``.
    """

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        for group in self.param_groups:
            shrink = 1.0 - group["lr"] * group.get("decoupled_weight_decay", 0.0)
            if shrink != 1.0:
                for parameter in group["params"]:
                    if parameter.grad is not None:
                        parameter.mul_(shrink)
        loss: float | None = super().step(closure)
        return loss


def parameter_groups(model: torch.nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Trained parameters as optimizer groups: matrices with ``weight_decay``, vectors (biases, norms) without.

    Groups that would be empty are left out.
    """
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    matrices = [parameter for parameter in trained if parameter.ndim >= 2]
    vectors = [parameter for parameter in trained if parameter.ndim < 2]
    groups = [{"params": matrices, "weight_decay": weight_decay}, {"params": vectors, "weight_decay": 0.0}]
    return [group for group in groups if group["params"]]


def build_optimizer(model: torch.nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """The recipe's optimizer over the trained parameters; AdamW and SGD fused: one pass over memory instead of ten.

    Loshchilov and Hutter, Decoupled Weight Decay Regularization, 2019 (AdamW). Shazeer and Stern, Adafactor: Adaptive
    Learning Rates with Sublinear Memory Cost, 2018: a step is at most ``learning_rate`` times the root mean square of
    its matrix. Chen et al., Symbolic Discovery of Optimization Algorithms, 2023 (Lion).
    """
    groups = parameter_groups(model, recipe.weight_decay)
    own = recipe.optimizer_parameters
    if recipe.optimizer == "adamw":
        betas = (own["beta1"], own["beta2"])
        return torch.optim.AdamW(groups, lr=recipe.learning_rate, betas=betas, eps=own["epsilon"], fused=True)
    if recipe.optimizer == "adafactor":
        return torch.optim.Adafactor(
            groups,
            lr=recipe.learning_rate,
            beta2_decay=own["beta2_decay"],
            eps=(None, own["smallest_scale"]),
            d=own["clipping_threshold"],
        )
    if recipe.optimizer == "lion":
        from lion_pytorch import Lion

        lion: torch.optim.Optimizer = Lion(groups, lr=recipe.learning_rate, betas=(own["beta1"], own["beta2"]))
        return lion
    assert recipe.optimizer == "sgd", f"unknown optimizer {recipe.optimizer!r}"
    for group in groups:
        group["decoupled_weight_decay"] = group.pop("weight_decay")
    return DecoupledSGD(
        groups,
        lr=recipe.learning_rate,
        momentum=own["momentum"],
        nesterov=own["nesterov"] and own["momentum"] > 0,
        fused=True,
    )


def set_learning_rate(optimizer: Any, learning_rate: float) -> None:
    """Set the rate of every group; DeepSpeed's wrappers share their groups with the optimizer that they wrap."""
    for group in optimizer.param_groups:
        group["lr"] = learning_rate
