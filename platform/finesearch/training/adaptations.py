"""The registry of adaptations: which parameters of a model are trained, and how.

An adaptation gets a freshly built model and may freeze parameters of it (or, later, add some). Parameters that the base
model did not have, the new output layer above all, are trained under every adaptation: frozen at random they would only
do harm. ``finesearch.plan`` holds the same names with their searchable parameters; a test keeps the two in step.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from finesearch.errors import ModelError
from finesearch.training.anatomy import Anatomy

if TYPE_CHECKING:
    from transformers import PreTrainedModel

ADAPTATIONS: dict[str, Adaptation] = {}


class Adaptation(ABC):
    """One way to adapt a model. Stateless; its parameters come with every call."""

    name: ClassVar[str]

    def __init_subclass__(cls) -> None:
        ADAPTATIONS[cls.name] = cls()

    @abstractmethod
    def frozen_modules(self, model: PreTrainedModel, anatomy: Anatomy, parameters: Mapping[str, Any]) -> Iterable[str]:
        """Names of the modules that are frozen with everything in them.

        Raises:
            ModelError: the model does not have what the adaptation needs.
        """


class Full(Adaptation):
    """Every parameter is trained."""

    name = "full"

    def frozen_modules(self, model: PreTrainedModel, anatomy: Anatomy, parameters: Mapping[str, Any]) -> Iterable[str]:
        return ()


class FreezeEmbeddings(Adaptation):
    """All that runs before the first block is frozen."""

    name = "freeze_embeddings"

    def frozen_modules(self, model: PreTrainedModel, anatomy: Anatomy, parameters: Mapping[str, Any]) -> Iterable[str]:
        return anatomy.bottom(0)


class FreezeBottom(Adaptation):
    """The embeddings and the lowest ``layers`` blocks are frozen; with 0 layers, the embeddings alone."""

    name = "freeze_bottom"

    def frozen_modules(self, model: PreTrainedModel, anatomy: Anatomy, parameters: Mapping[str, Any]) -> Iterable[str]:
        layers = parameters["layers"]
        check_layers(layers, len(anatomy.blocks), type(model).__name__)
        return anatomy.bottom(layers)


class HeadOnly(Adaptation):
    """The whole backbone is frozen; the task's head alone is trained."""

    name = "head_only"

    def frozen_modules(self, model: PreTrainedModel, anatomy: Anatomy, parameters: Mapping[str, Any]) -> Iterable[str]:
        if not anatomy.backbone:
            raise ModelError(
                f"{type(model).__name__}: head_only needs a model with a head of its own, this one has none. "
                f"Use freeze_bottom instead."
            )
        return (anatomy.backbone,)


def check_layers(layers: int, available: int, architecture: str) -> None:
    """Whether ``layers`` blocks can be frozen.

    Raises:
        ModelError: the model has fewer, or its layers share one block.
    """
    if layers and not available:
        raise ModelError(
            f"adaptation.freeze_bottom.layers: {architecture} shares one block among all of its layers, so that none "
            f"can be frozen alone. Use freeze_embeddings or head_only."
        )
    if layers > available:
        raise ModelError(
            f"adaptation.freeze_bottom.layers: {architecture} has {available} layers, so expected at most {available}, "
            f"got {layers}. Lower the number, or choose a deeper model."
        )


def adapt(
    model: PreTrainedModel, anatomy: Anatomy, name: str, parameters: Mapping[str, Any], fresh: Collection[str]
) -> None:
    """Freeze in place what the adaptation freezes; ``fresh`` names the parameters that the base model did not have.

    Frozen modules stay in eval mode (no dropout), whatever ``model.train()`` is called with later.
    """
    frozen = tuple(ADAPTATIONS[name].frozen_modules(model, anatomy, parameters))
    for module_name in frozen:
        model.get_submodule(module_name).requires_grad_(False)
    for parameter_name in fresh:
        model.get_parameter(parameter_name).requires_grad_(True)
    if frozen:
        # A container such as BART's encoder drops out the (frozen) embeddings in its own forward: it is quiet as well.
        keep_in_eval_mode(model, frozen, anatomy.containers)


def keep_in_eval_mode(model: PreTrainedModel, subtrees: Collection[str], alone: Collection[str]) -> None:
    """Make ``model.train()`` leave in eval mode the named subtrees, and those in ``alone`` without their children."""
    train = model.train

    def train_all_but_frozen(mode: bool = True) -> PreTrainedModel:
        train(mode)
        for name in subtrees:
            model.get_submodule(name).eval()
        for name in alone:
            model.get_submodule(name).training = False
        return model

    # On the instance: the class name ends up in the checkpoint's config and must stay what it is.
    model.train = train_all_but_frozen  # type: ignore[method-assign]
    model.train(model.training)
