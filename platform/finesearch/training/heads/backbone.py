"""The plain encoder or decoder of an architecture, and what a class of our own over it inherits from."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PretrainedConfig


@dataclass(frozen=True)
class Backbone:
    """kind: the class of transformers. parent: the architecture's base class, which initialises weights.

    prefix: the backbone's name inside of other models. takes_types: whether it reads ``token_type_ids``.
    """

    kind: Any
    parent: Any
    prefix: str
    takes_types: bool

    def build(self, config: PretrainedConfig) -> Any:
        """A backbone with random weights, without a pooler."""
        settings = inspect.signature(self.kind).parameters
        return self.kind(config, **({"add_pooling_layer": False} if "add_pooling_layer" in settings else {}))

    def states(self, model: Any, input_ids: Tensor, attention_mask: Tensor | None, types: Tensor | None) -> Tensor:
        """The last states (B, T, H) of the backbone inside of ``model``; types: ``token_type_ids``."""
        named = {"token_type_ids": types} if self.takes_types and types is not None else {}
        outputs = getattr(model, self.prefix)(input_ids=input_ids, attention_mask=attention_mask, **named)
        states: Tensor = outputs.last_hidden_state
        return states


class OwnClass:
    """Mixin of every class of our own."""

    @classmethod
    def is_custom_code(cls) -> bool:
        """False: initialised as classes of transformers are. For other code, transformers leaves out modules without
        parameters, by which GPT-2 scales the weights of its residual layers."""
        return False


@cache
def backbone_of(config_class: type) -> Backbone:
    """The backbone of an architecture.

    Raises:
        ValueError: it has no plain encoder or decoder.
    """
    from transformers import MODEL_MAPPING, PreTrainedModel

    if config_class not in MODEL_MAPPING:
        raise ValueError(f"{config_class.__name__} has no base model")
    kind: Any = MODEL_MAPPING[config_class]
    if isinstance(kind, tuple):
        kind = kind[0]
    bases = (base for base in reversed(kind.__mro__) if issubclass(base, PreTrainedModel))
    parent: Any = next(base for base in bases if base is not PreTrainedModel)
    if not parent.base_model_prefix:
        raise ValueError(f"{kind.__name__} has no name inside of other models")
    takes_types = "token_type_ids" in inspect.signature(kind.forward).parameters
    return Backbone(kind, parent, parent.base_model_prefix, takes_types)


def refuse_encoder_decoder(config: PretrainedConfig) -> None:
    """
    Raises:
        ValueError: the model has an encoder and a decoder.
    """
    if getattr(config, "is_encoder_decoder", False):
        raise ValueError(f"{type(config).__name__} has an encoder and a decoder")


def head_dropout(config: PretrainedConfig) -> float:
    """The probability of dropout before an output layer, by the config; 0.1 where it says none."""
    for field in ("classifier_dropout", "seq_classif_dropout", "hidden_dropout_prob"):
        value = getattr(config, field, None)
        if value is not None:
            return float(value)
    return 0.1
