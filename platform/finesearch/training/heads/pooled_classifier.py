"""Classifier of texts over any encoder or decoder: pooled states, dropout, an optional hidden layer, an output layer.

It stands beside the classes of transformers, whose heads differ by architecture and mostly read the first token.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from finesearch.training.heads.backbone import OwnClass, backbone_of, head_dropout, refuse_encoder_decoder
from finesearch.training.heads.own_auto_class import OwnAutoClass
from finesearch.training.heads.pooled_head import pooled_head
from finesearch.training.heads.pooling import pool

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PretrainedConfig


class PooledClassifier(OwnClass):
    """Mixin of every ``…ForPooledClassification`` class, whatever its backbone; see ``pooled_class``."""

    def pooled(
        self: Any, input_ids: Tensor, attention_mask: Tensor | None = None, token_type_ids: Tensor | None = None
    ) -> Tensor:
        """The pooled states (B, H) that the head reads, before dropout; of length 1 where the head normalizes."""
        states = backbone_of(self.config_class).states(self, input_ids, attention_mask, token_type_ids)
        scores = self.token_scores(states)[..., 0] if self.head.pooling == "attention" else None
        pooled = pool(self.head.pooling, states, attention_mask, scores)
        return nn.functional.normalize(pooled, dim=-1) if self.head.normalizes else pooled

    def classified(self: Any, pooled: Tensor) -> Tensor:
        """Logits (B, num_labels) of pooled states (B, H)."""
        hidden = self.dropout(pooled)
        if self.head.hidden_size is not None:
            hidden = self.dropout(torch.tanh(self.dense(hidden)))
        logits: Tensor = self.classifier(hidden)
        return logits


@cache
def pooled_class(config_class: type) -> Any:
    """The class for one architecture: a subclass of its base class, so that the backbone's names, weights and
    initialisation are the same as in every other class of that architecture. Its head is the config's ``PooledHead``.

    ``token_scores`` (H → 1) scores tokens for the pooling ``attention``; ``dense`` (H → hidden size), with tanh and
    dropout after it as in RoBERTa's head, is the hidden layer, where there is one; ``classifier`` is the output layer.

    Raises:
        ValueError: the architecture has no plain encoder or decoder.
    """
    backbone = backbone_of(config_class)

    def build(self: Any, config: PretrainedConfig) -> None:
        backbone.parent.__init__(self, config)
        refuse_encoder_decoder(config)
        head = pooled_head(config)
        assert head is not None, config
        self.head, self.num_labels = head, config.num_labels
        setattr(self, backbone.prefix, backbone.build(config))
        self.dropout = nn.Dropout(head_dropout(config))
        width: Any = config.get_text_config().hidden_size
        if head.pooling == "attention":
            self.token_scores = nn.Linear(width, 1)
        if head.hidden_size is not None:
            self.dense = nn.Linear(width, head.hidden_size)
        self.classifier = nn.Linear(head.hidden_size or width, self.num_labels)
        self.post_init()

    def forward(
        self: Any,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        token_type_ids: torch.Tensor | None = None,
    ) -> Any:
        from transformers.modeling_outputs import SequenceClassifierOutput

        return SequenceClassifierOutput(logits=self.classified(self.pooled(input_ids, attention_mask, token_type_ids)))

    name = f"{config_class.__name__.removesuffix('Config')}ForPooledClassification"
    members = {"__init__": build, "forward": forward, "__module__": __name__, "config_class": config_class}
    return type(name, (PooledClassifier, backbone.parent), members)


AutoModelForPooledClassification = OwnAutoClass(pooled_class)
