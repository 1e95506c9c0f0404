"""Relation-extraction model: any encoder with a classifier over the states of two entity markers.

Baldini Soares, FitzGerald, Ling and Kwiatkowski, "Matching the Blanks: Distributional Similarity for Relation
Learning", ACL 2019 (the entity-start state of their section 3.2).
"""

from __future__ import annotations

import inspect
from functools import cache
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from finesearch.training.model.added_tokens import ExtendedEmbedding

if TYPE_CHECKING:
    from pathlib import Path

    from transformers import PretrainedConfig, PreTrainedModel

LOADER = '''# Relation extraction

Written by finesearch. `AutoModel` loads the encoder with the markers in its vocabulary (and says that `classifier` is
not its own); the classifier stands in the same file, over the states of the two start markers.

```python
import torch
from safetensors.torch import load_file
from transformers import AutoModel, AutoTokenizer

folder = "."
tokenizer = AutoTokenizer.from_pretrained(folder)
encoder = AutoModel.from_pretrained(folder).eval()
weights = load_file(f"{folder}/model.safetensors")


def relation(text, head="[E1]", tail="[E2]"):
    """text with markers: '[E1] Ada [/E1] was born in [E2] London [/E2] .'; typed: head='[E1:PER]', and so on."""
    tokens = tokenizer(text, return_tensors="pt")
    with torch.no_grad():
        states = encoder(**tokens).last_hidden_state[0]
    ids = tokens["input_ids"][0].tolist()
    starts = [ids.index(tokenizer.convert_tokens_to_ids(marker)) for marker in (head, tail)]
    scores = weights["classifier.weight"] @ states[starts].flatten() + weights["classifier.bias"]
    return encoder.config.id2label[int(scores.argmax())]
```
'''


class RelationExtractionModel:
    """Mixin of every ``…ForRelationExtraction`` class, whatever its encoder; see ``relation_class``."""

    def merge_added_tokens(self: Any) -> None:
        """Merge the markers into the embedding table, as classes of transformers expect."""
        table = self.get_input_embeddings()
        if isinstance(table, ExtendedEmbedding):
            merged = table.merged()
            self.set_input_embeddings(merged)
            self.config.get_text_config().vocab_size = merged.num_embeddings
            for field in ("added_tokens_start", "num_added_tokens"):
                delattr(self.config, field)


class AutoModelForRelationExtraction:
    """Builds the class of a config's architecture, as the auto classes of transformers do."""

    @staticmethod
    def from_config(config: PretrainedConfig, trust_remote_code: bool = False, **settings: Any) -> PreTrainedModel:
        """A model with random weights.

        Raises:
            ValueError: the head cannot be put on this architecture.
        """
        assert not trust_remote_code
        kind: Any = type(config)
        model: PreTrainedModel = relation_class(kind)._from_config(config, **settings)
        return model

    @staticmethod
    def from_pretrained(
        folder: str | Path, config: PretrainedConfig, trust_remote_code: bool = False, **settings: Any
    ) -> Any:
        """A model with the folder's weights; see ``PreTrainedModel.from_pretrained``."""
        assert not trust_remote_code
        kind: Any = type(config)
        return relation_class(kind).from_pretrained(folder, config=config, **settings)


@cache
def relation_class(config_class: type) -> Any:
    """The class for one architecture: a subclass of its base class, so that the encoder's names, weights and
    initialisation are the same as in every other class of that architecture.

    Raises:
        ValueError: the architecture has no plain encoder or decoder.
    """
    from transformers import MODEL_MAPPING, PreTrainedModel

    if config_class not in MODEL_MAPPING:
        raise ValueError(f"{config_class.__name__} has no base model")
    backbone: Any = MODEL_MAPPING[config_class]
    if isinstance(backbone, tuple):
        backbone = backbone[0]
    parent = next(
        base for base in reversed(backbone.__mro__) if issubclass(base, PreTrainedModel) and base is not PreTrainedModel
    )
    prefix = parent.base_model_prefix
    takes_types = "token_type_ids" in inspect.signature(backbone.forward).parameters
    no_pooling = {"add_pooling_layer": False} if "add_pooling_layer" in inspect.signature(backbone).parameters else {}
    if not prefix:
        raise ValueError(f"{backbone.__name__} has no name inside of other models")

    def build(self: Any, config: PretrainedConfig) -> None:
        parent.__init__(self, config)
        if getattr(config, "is_encoder_decoder", False):
            raise ValueError(f"{backbone.__name__} has an encoder and a decoder")
        self.num_labels = config.num_labels
        setattr(self, prefix, backbone(config, **no_pooling))
        _extend(self, config)
        self.dropout = nn.Dropout(_head_dropout(config))
        width: Any = config.get_text_config().hidden_size
        self.classifier = nn.Linear(2 * width, self.num_labels)
        self.post_init()

    def forward(
        self: Any,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        token_type_ids: torch.Tensor | None = None,
        marker_positions: torch.Tensor | None = None,
    ) -> Any:
        """marker_positions: (B, 2), positions of the markers before head and tail; default: the first token."""
        from transformers.modeling_outputs import SequenceClassifierOutput

        types = {"token_type_ids": token_type_ids} if takes_types and token_type_ids is not None else {}
        states = getattr(self, prefix)(input_ids=input_ids, attention_mask=attention_mask, **types).last_hidden_state
        if marker_positions is None:
            marker_positions = torch.zeros(len(input_ids), 2, dtype=torch.int64, device=input_ids.device)
        rows = torch.arange(len(input_ids), device=input_ids.device)[:, None]
        pair = states[rows, marker_positions].flatten(1)
        return SequenceClassifierOutput(logits=self.classifier(self.dropout(pair)))

    name = f"{config_class.__name__.removesuffix('Config')}ForRelationExtraction"
    members = {"__init__": build, "forward": forward, "__module__": __name__, "config_class": config_class}
    return type(name, (RelationExtractionModel, parent), members)


def _extend(model: Any, config: PretrainedConfig) -> None:
    table = model.get_input_embeddings()
    if type(table) is not nn.Embedding:
        raise ValueError(f"{type(table).__name__} does more than look up, so that no row can stand beside it")
    if getattr(config, "num_added_tokens", 0):
        model.set_input_embeddings(ExtendedEmbedding(table, config.added_tokens_start, config.num_added_tokens))


def _head_dropout(config: PretrainedConfig) -> float:
    for field in ("classifier_dropout", "seq_classif_dropout", "hidden_dropout_prob"):
        value = getattr(config, field, None)
        if value is not None:
            return float(value)
    return 0.1
