"""Adaptations that freeze whole modules: full fine-tuning, frozen bottom layers, top layers only, head only."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING

from finesearch.errors import ModelError
from finesearch.training.adaptations.adaptation import (
    Adaptation,
    AdaptationContext,
    Parameters,
    check_layers,
    head_parameters,
)
from finesearch.training.model.module_structure import backbone_prefix

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class Full(Adaptation):
    """Every parameter is trained."""

    name = "full"

    def trained(self, model: PreTrainedModel, parameters: Parameters, context: AdaptationContext) -> Iterable[str]:
        return all_but(model, ())


class FreezeEmbeddings(Adaptation):
    """All that runs before the first block is frozen."""

    name = "freeze_embeddings"

    def trained(self, model: PreTrainedModel, parameters: Parameters, context: AdaptationContext) -> Iterable[str]:
        return all_but(model, context.structure.bottom(0))


class FreezeBottom(Adaptation):
    """The embeddings and the lowest ``layers`` blocks are frozen; with 0 layers, the embeddings alone."""

    name = "freeze_bottom"
    checked = ("layers",)

    def check(self, model: PreTrainedModel, parameters: Parameters) -> None:
        check_layers(f"adaptation.{self.name}.layers", parameters["layers"], model)

    def trained(self, model: PreTrainedModel, parameters: Parameters, context: AdaptationContext) -> Iterable[str]:
        return all_but(model, context.structure.bottom(parameters["layers"]))


class TrainTop(Adaptation):
    """The top ``layers`` blocks and everything above them are trained; with 0 layers, only the latter."""

    name = "train_top"
    checked = ("layers",)

    def check(self, model: PreTrainedModel, parameters: Parameters) -> None:
        check_layers(f"adaptation.{self.name}.layers", parameters["layers"], model)

    def trained(self, model: PreTrainedModel, parameters: Parameters, context: AdaptationContext) -> Iterable[str]:
        return all_but(model, context.structure.bottom(len(context.structure.blocks) - parameters["layers"]))


class HeadOnly(Adaptation):
    """The whole backbone is frozen; the task's head alone is trained."""

    name = "head_only"

    def check(self, model: PreTrainedModel, parameters: Parameters) -> None:
        if not backbone_prefix(model):
            raise ModelError(
                f"{type(model).__name__}: head_only needs a model with a head of its own, this one has none. "
                f"Use freeze_bottom instead."
            )
        if not head_parameters(model):
            raise ModelError(
                f"adaptation.head_only: the output layer of {type(model).__name__} has no parameters of its own (it "
                f"shares them with the embeddings), so that nothing would be trained. Use freeze_bottom or "
                f"freeze_embeddings instead."
            )

    def trained(self, model: PreTrainedModel, parameters: Parameters, context: AdaptationContext) -> Iterable[str]:
        return head_parameters(model)


def all_but(model: PreTrainedModel, modules: Collection[str]) -> list[str]:
    """Names of all parameters outside the modules."""
    prefixes = tuple(f"{module}." for module in modules)
    return [name for name, _ in model.named_parameters() if not name.startswith(prefixes)]
