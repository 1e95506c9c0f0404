"""AdamW (also in 8 bits), SGD, Adafactor and Lion of libraries, with decoupled weight decay without biases and norms.

All are torch optimizers, passed to DeepSpeed. Adafactor is torch's (maintained with torch, decoupled decay as in the
others, no built-in schedule to disable); Lion is lion-pytorch's, since DeepSpeed's needs a CUDA compiler.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import TYPE_CHECKING, Any

import torch

from finesearch.training.weights.import_bitsandbytes import import_bitsandbytes

if TYPE_CHECKING:
    from finesearch.plan import Recipe


SECOND_MATRIX = ".lora_B."
"""In the names of the matrices that peft starts at 0."""


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


def parameter_groups(
    model: torch.nn.Module,
    weight_decay: float,
    depths: Mapping[str, int] | None = None,
    layerwise_decay: float = 1.0,
    factors: Mapping[str, float] | None = None,
) -> list[dict[str, Any]]:
    """Trained parameters as optimizer groups: matrices with ``weight_decay``, vectors (biases, norms) without.

    With ``depths`` (see ``parameter_depths``) each depth has its own groups, with their ``depth`` and ``rate_factor``:
    layerwise_decay ** depth, the factor of the learning rate. Discriminative fine-tuning (Howard and Ruder, 2018), in
    the form of Clark et al. (ELECTRA, 2020). ``factors`` of other parameters' learning rates, by name: those that are
    not 1 have groups of their own, and multiply their ``rate_factor``. Empty groups are left out.
    """
    groups: dict[tuple[int, bool, float, bool], list[torch.nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            # IA3's vectors are stored as matrices; decay would pull them towards 0, but their neutral value is 1.
            is_vector = parameter.ndim < 2 or ".ia3_l." in name
            factor = (factors or {}).get(name, 1.0)
            # The order of groups is that of their state in checkpoints.
            place = (depths[name] if depths else 0, factor != 1.0, factor, is_vector)
            groups.setdefault(place, []).append(parameter)
    return [
        {"params": parameters, "weight_decay": 0.0 if are_vectors else weight_decay}
        | ({"depth": depth} if depths else {})
        | ({"rate_factor": layerwise_decay**depth * factor} if depths or has_own_rate else {})
        for (depth, has_own_rate, factor, are_vectors), parameters in sorted(groups.items(), key=lambda item: item[0])
    ]


def build_optimizer(
    model: torch.nn.Module, recipe: Recipe, depths: Mapping[str, int] | None = None, head: Collection[str] = ()
) -> torch.optim.Optimizer:
    """The recipe's optimizer over the trained parameters; AdamW and SGD fused: one pass over memory instead of ten.

    depths: needed for a ``layerwise_decay``; see ``parameter_groups``. head: names of the parameters that
    ``head_learning_rate`` is for. LoRA's second matrices learn ``lora_plus`` times as fast as its first (Hayou et al.,
    LoRA+: Efficient Low Rank Adaptation of Large Models, 2024).

    Loshchilov and Hutter, Decoupled Weight Decay Regularization, 2019 (AdamW). Shazeer and Stern, Adafactor: Adaptive
    Learning Rates with Sublinear Memory Cost, 2018: a step is at most ``learning_rate`` times the root mean square of
    its matrix. Chen et al., Symbolic Discovery of Optimization Algorithms, 2023 (Lion).
    """
    factors = dict.fromkeys(head, recipe.head_learning_rate)
    plus = recipe.adaptation_parameters.get("lora_plus", 1.0)
    factors |= {name: plus for name, _ in model.named_parameters() if SECOND_MATRIX in name}
    groups = parameter_groups(model, recipe.weight_decay, depths, recipe.layerwise_decay, factors)
    own = recipe.optimizer_parameters
    if recipe.optimizer == "adamw":
        betas = (own["beta1"], own["beta2"])
        return torch.optim.AdamW(groups, lr=recipe.learning_rate, betas=betas, eps=own["epsilon"], fused=True)
    if recipe.optimizer == "adamw_8bit":
        betas = (own["beta1"], own["beta2"])
        bits: torch.optim.Optimizer = import_bitsandbytes().optim.AdamW8bit(
            groups, lr=recipe.learning_rate, betas=betas, eps=own["epsilon"]
        )
        return bits
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
    """Set the rate of every group, times the group's own factor.

    DeepSpeed's wrappers share their groups with the optimizer that they wrap.
    """
    for group in optimizer.param_groups:
        group["lr"] = learning_rate * group.get("rate_factor", 1.0)
