"""The registry of adaptations: which parameters of a model are trained, and how.

base        what an adaptation answers
freezing    full · freeze_embeddings · freeze_bottom · train_top · head_only
selection   norms_only · biases_only · pattern
quiet       no dropout where nothing trains

An adaptation gets a freshly built model and says what of it trains. Parameters that the base model did not have, the
new output layer above all, are trained under every adaptation: frozen at random they would only do harm.
``finesearch.plan`` holds the same names with their searchable parameters; a test keeps the two in step.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

from finesearch.errors import ModelError
from finesearch.training.adaptations import freezing, selection
from finesearch.training.adaptations.base import ADAPTATIONS, Adaptation
from finesearch.training.adaptations.quiet import keep_quiet, quiet_modules
from finesearch.training.anatomy import Anatomy

if TYPE_CHECKING:
    from transformers import PreTrainedModel

__all__ = ["ADAPTATIONS", "Adaptation", "adapt", "freezing", "selection"]


def adapt(
    model: PreTrainedModel, anatomy: Anatomy, name: str, parameters: Mapping[str, Any], fresh: Collection[str]
) -> None:
    """Freeze in place all that the adaptation does not train; ``fresh`` names what the base model did not have.

    Parts in which nothing trains stay in eval mode (no dropout), whatever ``model.train()`` is called with later.

    Raises:
        ModelError: the model cannot be adapted so.
    """
    adaptation = ADAPTATIONS[name]
    adaptation.check(model, parameters)
    trained = {*adaptation.trained(model, anatomy, parameters), *fresh}
    if not trained:
        raise ModelError(
            f"adaptation.{name}: nothing of {type(model).__name__} would train, since its head shares its weights with "
            f"the embeddings. Use an adaptation that trains a part of the backbone, such as train_top."
        )
    for parameter_name, parameter in model.named_parameters():
        parameter.requires_grad_(parameter_name in trained)
    quiet = quiet_modules(model, anatomy, trained)
    if quiet.subtrees:
        keep_quiet(model, lambda: quiet)
