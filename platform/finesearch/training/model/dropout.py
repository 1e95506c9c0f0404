"""Dropout of a recipe, set on the model's config before the model is built from it, so that no module is forgotten.

Three independent knobs; ``None`` leaves the model's own: ``dropout`` (hidden states, embeddings included),
``attention_dropout`` (attention weights) and ``head_dropout`` (before the output layer). Many configs let the head fall
back to the hidden dropout; here it does not, and keeps its own unless ``head_dropout`` says otherwise.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from finesearch.training.model.module_structure import backbone_prefix

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel

    from finesearch.plan import Recipe

# Config fields of dropout, as the architectures of transformers call them.
HIDDEN_FIELDS = (
    "hidden_dropout_prob",
    "hidden_dropout",
    "dropout",
    "resid_pdrop",
    "embd_pdrop",
    "embedding_dropout",
    "embed_dropout",
    "resid_dropout",
    "mlp_dropout",
)
ATTENTION_FIELDS = ("attention_probs_dropout_prob", "attention_dropout", "attn_pdrop", "attn_dropout")
HEAD_FIELDS = ("classifier_dropout", "classifier_dropout_prob", "seq_classif_dropout", "pooler_dropout", "cls_dropout")


def set_config_dropout(config: PretrainedConfig, recipe: Recipe) -> tuple[str, ...]:
    """Set hidden and attention dropout in the config; returns a warning for each setting without effect."""
    warnings = []
    for knob, value, fields in (
        ("dropout", recipe.dropout, HIDDEN_FIELDS),
        ("attention_dropout", recipe.attention_dropout, ATTENTION_FIELDS),
    ):
        if value is None:
            continue
        known = [field for field in fields if hasattr(config, field)]
        for field in known:
            setattr(config, field, value)
        if not known:
            warnings.append(f"{knob} {value:g} has no effect: {type(config).__name__} has no such dropout.")
    return tuple(warnings)


def head_dropouts(model: PreTrainedModel) -> dict[str, float]:
    """Dropout modules outside the backbone and their probabilities."""
    prefix = backbone_prefix(model)
    return {
        name: module.p
        for name, module in model.named_modules()
        if "Dropout" in type(module).__name__ and hasattr(module, "p") and not (prefix and name.startswith(prefix))
    }


def set_head_dropout(model: PreTrainedModel, recipe: Recipe, own: Mapping[str, float]) -> tuple[str, ...]:
    """Set the head's dropout in a built model and its config; ``own`` is what the model came with."""
    value = recipe.head_dropout
    for name, probability in own.items():
        model.get_submodule(name).p = probability if value is None else value  # type: ignore[assignment]
    effective = value if value is not None else next(iter(own.values()), None)
    for field in HEAD_FIELDS:
        if effective is not None and hasattr(model.config, field):
            setattr(model.config, field, effective)
    if value is not None and not own:
        return (f"head_dropout {value:g} has no effect: {type(model).__name__} has no dropout in its head.",)
    return ()
