"""Adapters by peft (LoRA, DoRA, rsLoRA, IA3) and their target modules: base weights stay frozen, small matrices train.

Target modules are passed to peft by full name, so that heads of the same name (RoBERTa's ``dense``) are left alone, as
are layers that the base model did not have: those train as a whole.
"""

from __future__ import annotations

import difflib
from abc import abstractmethod
from collections.abc import Collection, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from finesearch.errors import ModelError
from finesearch.training.adaptations.adaptation import Adaptation, AdaptationContext, Parameters, task_head
from finesearch.training.adaptations.prompt_injection import PROMPT_ENCODER
from finesearch.training.model.dimensions import usual_targets
from finesearch.training.model.module_structure import backbone_prefix, block_lists, ending_in

if TYPE_CHECKING:
    from peft import PeftConfig
    from transformers import PreTrainedModel

# Names of the parameters that peft's layers add, and of a model's prompt.
ADDED = ("lora_", "ia3_", PROMPT_ENCODER)
# (IA)³ target modules (keys, values, inner activations) that peft does not list: all, and those with scaled input.
# ModernBERT computes queries, keys and values in one layer, like GPT-2.
PLACES: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "distilbert": (("k_lin", "v_lin", "ffn.lin2"), ("ffn.lin2",)),
    "modernbert": (("attn.Wqkv", "mlp.Wo"), ("mlp.Wo",)),
}


class Adapter(Adaptation):
    """An adapter that can be merged into the weights of the layers that it adapts."""

    @abstractmethod
    def config(self, model: PreTrainedModel, parameters: Parameters, fresh: Collection[str]) -> PeftConfig:
        """The peft config; its target modules are full names."""

    def attach(self, model: PreTrainedModel, parameters: Parameters, fresh: Collection[str]) -> None:
        from peft import inject_adapter_in_model

        inject_adapter_in_model(self.config(model, parameters, fresh), model)

    def trained(self, model: PreTrainedModel, parameters: Parameters, context: AdaptationContext) -> Iterable[str]:
        return {name for name, _ in model.named_parameters() if is_added(name)} | task_head(model)


class LoRA(Adapter):
    """A product of two matrices of rank ``rank``, times alpha / rank, is added to each target's weight.

    Hu et al., LoRA: Low-Rank Adaptation of Large Language Models, 2022. ``dora`` trains the length of each weight
    vector apart from its direction (Liu et al., DoRA, 2024); ``rslora`` divides alpha by the root of the rank
    (Kalajdzievski, A Rank Stabilization Scaling Factor for Fine-Tuning with LoRA, 2023).
    """

    name = "lora"
    checked = ("targets",)

    def check(self, model: PreTrainedModel, parameters: Parameters) -> None:
        layers = linear_layers(model)
        for target in parameters["targets"].split():
            if target not in ("auto", "all_linear", "all-linear") and not ending_in([target], layers):
                known = sorted({name.rpartition(".")[2] for name in layers})
                near = difflib.get_close_matches(target, known, n=1)
                raise ModelError(
                    f"adaptation.lora.targets: '{target}' names no linear layer inside the layers of "
                    f"{type(model).__name__}. {f'Did you mean {near[0]!r}? ' if near else ''}"
                    f"Known here: {', '.join(known)}, auto, all_linear."
                )

    def config(self, model: PreTrainedModel, parameters: Parameters, fresh: Collection[str]) -> PeftConfig:
        from peft import LoraConfig

        targets = [name for name in self.targets(model, parameters["targets"].split()) if not owns(name, fresh)]
        return LoraConfig(
            r=parameters["rank"],
            lora_alpha=parameters["alpha"],
            lora_dropout=parameters["lora_dropout"],
            target_modules=targets,
            fan_in_fan_out=stores_transposed(model, targets),
            use_dora=parameters["dora"],
            use_rslora=parameters["rslora"],
        )

    def targets(self, model: PreTrainedModel, wanted: Sequence[str]) -> list[str]:
        """Full names of the target modules. ``auto``: peft's default for the architecture, else all linear layers."""
        layers = linear_layers(model)
        if wanted == ["auto"]:
            usual = ending_in(usual_targets(model), layers)
            return usual or layers
        return layers if wanted in (["all_linear"], ["all-linear"]) else ending_in(wanted, layers)


class IA3(Adapter):
    """Keys, values and the feed-forward's inner activations are multiplied by trained vectors.

    Liu et al., Few-Shot Parameter-Efficient Fine-Tuning is Better and Cheaper than In-Context Learning, 2022.
    """

    name = "ia3"

    def check(self, model: PreTrainedModel, parameters: Parameters) -> None:
        if not self.places(model)[0]:
            raise ModelError(
                f"adaptation.ia3: it is not known where {type(model).__name__} takes its vectors. Use lora, which "
                f"takes every model with linear layers."
            )

    def config(self, model: PreTrainedModel, parameters: Parameters, fresh: Collection[str]) -> PeftConfig:
        from peft import IA3Config

        targets, inner = self.places(model)
        targets = [name for name in targets if not owns(name, fresh)]
        return IA3Config(
            target_modules=targets,
            feedforward_modules=[name for name in inner if name in targets],
            fan_in_fan_out=stores_transposed(model, targets),
        )

    def places(self, model: PreTrainedModel) -> tuple[list[str], list[str]]:
        """Full names of the target modules, and of those whose input is multiplied instead of their output."""
        from peft.utils.constants import TRANSFORMERS_MODELS_TO_IA3_FEEDFORWARD_MODULES_MAPPING as INNER
        from peft.utils.constants import TRANSFORMERS_MODELS_TO_IA3_TARGET_MODULES_MAPPING as ALL

        kind, layers = model.config.model_type, linear_layers(model)
        places, inner = PLACES.get(kind, (ALL.get(kind, ()), INNER.get(kind, ())))
        return ending_in(places, layers), ending_in(inner, layers)


def linear_layers(model: PreTrainedModel) -> list[str]:
    """Full names of the linear layers inside the blocks, or inside the backbone where layers share one block."""
    from torch import nn
    from transformers.pytorch_utils import Conv1D

    within = tuple(f"{name}." for name in block_lists(model)) or (backbone_prefix(model),)
    return [
        name
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear | Conv1D) and name.startswith(within)
    ]


def owns(module: str, parameters: Collection[str]) -> bool:
    """Whether one of the parameters is in the module; those of its adapters do not count."""
    return any(name.startswith(f"{module}.") and not is_added(name) for name in parameters)


def stores_transposed(model: PreTrainedModel, targets: Sequence[str]) -> bool:
    """Whether the targets are GPT-2's layers, which store their weights transposed."""
    from transformers.pytorch_utils import Conv1D

    return any(isinstance(model.get_submodule(name), Conv1D) for name in targets)


def is_added(parameter: str) -> bool:
    """Whether a parameter of this name is an adapter's.

    >>> is_added("encoder.layer.0.query.lora_A.default.weight"), is_added("encoder.layer.0.query.base_layer.weight")
    (True, False)
    """
    return any(part.startswith(ADDED) for part in parameter.split("."))


def base_name(parameter: str) -> str:
    """The name of an adapted layer's parameter in the model without adapters."""
    return parameter.replace(".base_layer.", ".")


def merge_adapter(model: PreTrainedModel) -> None:
    """Merge the adapters into the base weights, in place; nothing of peft is left in the model."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    for name, module in list(model.named_modules()):
        if isinstance(module, BaseTunerLayer):
            module.merge(safe_merge=True)
            parent, _, child = name.rpartition(".")
            setattr(model.get_submodule(parent), child, module.get_base_layer())
    leftover: Any = vars(model)
    leftover.pop("peft_config", None)
