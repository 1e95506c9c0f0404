"""Relation-extraction model: any encoder with a classifier over the states of two entity markers.

Baldini Soares, FitzGerald, Ling and Kwiatkowski, "Matching the Blanks: Distributional Similarity for Relation
Learning", ACL 2019 (the entity-start state of their section 3.2).
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from finesearch.training.heads.backbone import OwnClass, backbone_of, head_dropout, refuse_encoder_decoder
from finesearch.training.heads.own_auto_class import OwnAutoClass
from finesearch.training.model.added_tokens import ExtendedEmbedding

if TYPE_CHECKING:
    from transformers import PretrainedConfig

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


class RelationExtractionModel(OwnClass):
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


@cache
def relation_class(config_class: type) -> Any:
    """The class for one architecture: a subclass of its base class, so that the encoder's names, weights and
    initialisation are the same as in every other class of that architecture.

    Raises:
        ValueError: the architecture has no plain encoder or decoder.
    """
    backbone = backbone_of(config_class)

    def build(self: Any, config: PretrainedConfig) -> None:
        backbone.parent.__init__(self, config)
        refuse_encoder_decoder(config)
        self.num_labels = config.num_labels
        setattr(self, backbone.prefix, backbone.build(config))
        _extend(self, config)
        self.dropout = nn.Dropout(head_dropout(config))
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

        states = backbone.states(self, input_ids, attention_mask, token_type_ids)
        if marker_positions is None:
            marker_positions = torch.zeros(len(input_ids), 2, dtype=torch.int64, device=input_ids.device)
        rows = torch.arange(len(input_ids), device=input_ids.device)[:, None]
        pair = states[rows, marker_positions].flatten(1)
        return SequenceClassifierOutput(logits=self.classifier(self.dropout(pair)))

    name = f"{config_class.__name__.removesuffix('Config')}ForRelationExtraction"
    members = {"__init__": build, "forward": forward, "__module__": __name__, "config_class": config_class}
    return type(name, (RelationExtractionModel, backbone.parent), members)


AutoModelForRelationExtraction = OwnAutoClass(relation_class)


def _extend(model: Any, config: PretrainedConfig) -> None:
    table = model.get_input_embeddings()
    if type(table) is not nn.Embedding:
        raise ValueError(f"{type(table).__name__} does more than look up, so that no row can stand beside it")
    if getattr(config, "num_added_tokens", 0):
        model.set_input_embeddings(ExtendedEmbedding(table, config.added_tokens_start, config.num_added_tokens))
