"""Applies an adaptation to a model: adds parameters (LoRA, prompts) and freezes those that do not train.

Parameters that the base model did not have, above all the new output layer, train under every adaptation: frozen at
random values they would only do harm.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from finesearch.errors import ModelError
from finesearch.training.adaptations.adaptation import Adaptation, AdaptationContext
from finesearch.training.adaptations.adapters import IA3, LoRA
from finesearch.training.adaptations.freezing import FreezeBottom, FreezeEmbeddings, Full, HeadOnly, TrainTop
from finesearch.training.adaptations.frozen_dropout import FrozenDropout, apply_frozen_dropout, find_frozen_dropout
from finesearch.training.adaptations.gradual_unfreezing import GradualUnfreezing
from finesearch.training.adaptations.parameter_selection import BiasesOnly, NormsOnly, Pattern
from finesearch.training.adaptations.soft_prompts import PrefixTuning, PromptTuning, PTuning
from finesearch.training.adaptations.unfreezing_schedule import UnfreezingSchedule
from finesearch.training.model.module_structure import ModuleStructure

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_KINDS: tuple[type[Adaptation], ...] = (
    Full, FreezeEmbeddings, FreezeBottom, TrainTop, HeadOnly,
    NormsOnly, BiasesOnly, Pattern, GradualUnfreezing,
    LoRA, IA3, PromptTuning, PTuning, PrefixTuning,
)  # fmt: skip
ADAPTATIONS: dict[str, Adaptation] = {kind.name: kind() for kind in _KINDS}
"""Every adaptation that trains, by its name in plans. ``finesearch.plan`` has the same names with their searchable
parameters; a test compares the two."""


@dataclass(frozen=True, eq=False)
class AdaptationResult:
    """Result of adapting a model, besides the model itself. ``frozen_dropout``: modules that never use dropout."""

    frozen_dropout: FrozenDropout = FrozenDropout()
    unfreezing: UnfreezingSchedule | None = None
    notes: tuple[str, ...] = ()


def adapt(
    model: PreTrainedModel,
    structure: ModuleStructure,
    name: str,
    parameters: Mapping[str, Any],
    fresh: Collection[str],
    *,
    steps: int = 1,
    seed: int = 0,
) -> AdaptationResult:
    """Add the adaptation's parameters in place, initialised from ``seed``, and freeze all that it does not train.

    fresh: names of the parameters that the base model did not have. steps: optimizer steps of the whole trial. Parts
    in which nothing trains stay in eval mode (no dropout), even after ``model.train()``.

    Raises:
        ModelError: the model does not support the adaptation.
    """
    adaptation, context = ADAPTATIONS[name], AdaptationContext(structure, fresh, steps)
    attach(model, name, parameters, fresh, seed)
    trained = {*adaptation.trained(model, parameters, context), *fresh}
    if not trained:
        raise ModelError(
            f"adaptation.{name}: nothing of {type(model).__name__} would train, since its head shares its weights with "
            f"the embeddings. Use an adaptation that trains a part of the backbone, such as train_top."
        )
    for parameter_name, parameter in model.named_parameters():
        parameter.requires_grad_(parameter_name in trained)
    unfreezing = adaptation.unfreezing(model, parameters, context)
    frozen_dropout = FrozenDropout()
    if unfreezing is None:
        frozen_dropout = find_frozen_dropout(model, structure, trained)
        if frozen_dropout.subtrees:
            apply_frozen_dropout(model, lambda: frozen_dropout)
    return AdaptationResult(frozen_dropout, unfreezing, adaptation.notes(model, parameters, context))


def attach(
    model: PreTrainedModel, name: str, parameters: Mapping[str, Any], fresh: Collection[str], seed: int = 0
) -> None:
    """Add the adaptation's parameters in place: turns a model with the base's parameters into the checkpoint's.

    Raises:
        ModelError: the model does not support the adaptation.
    """
    import torch

    from finesearch.training.runtime.seeding import derived_seed

    ADAPTATIONS[name].check(model, parameters)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derived_seed(seed, "adapter"))
        ADAPTATIONS[name].attach(model, parameters, fresh)
