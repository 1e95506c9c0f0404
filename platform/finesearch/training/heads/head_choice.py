"""The head of a recipe over one model: what ``pooling: auto`` means for its folder, and whose class has such a head."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from finesearch.errors import ModelError
from finesearch.plan.space.parameters import POOLINGS
from finesearch.training.heads.backbone import backbone_of
from finesearch.training.heads.folder_pooling import folder_normalizes, folder_pooling
from finesearch.training.heads.pooled_head import PooledHead, pooled_head

if TYPE_CHECKING:
    from transformers import PretrainedConfig

NATIVE_FIELD = "classifier_pooling"
"""The config field by which classes of transformers pool the first token or the mean (ModernBERT)."""
NATIVE_POOLINGS = ("cls", "mean")
CAUSAL_TYPES = ("openai-gpt",)
"""Decoders whose class for classification keeps no keys and values, by which others are known."""
CAUSAL_FIELDS = {"is_decoder": True, "causal": True, "attn_type": "uni"}
"""Values in configs of other architectures that make a decoder of them: BERT and its kin, XLM and FlauBERT, XLNet."""


@dataclass(frozen=True)
class HeadChoice:
    """config_fields: what makes a config's class the one with this head; none: the class that the folder's config has.

    note: what ``auto`` decided and by what; "" where there was nothing to decide.
    """

    config_fields: Mapping[str, Any] = field(default_factory=dict)
    note: str = ""


OWN_HEAD = HeadChoice()
"""The head that the architecture's own class has."""


def choose_head(
    folder: Path, config: PretrainedConfig, pooling: str, hidden_size: int | None = None, needs_bias: bool = False
) -> HeadChoice:
    """The head for a recipe's ``pooling`` and ``head_hidden_size``; ``config`` is that of the model in ``folder``.

    needs_bias: whether the output layer must have one, which decoders' own classes lack.

    Raises:
        ModelError: the model cannot be pooled so.
    """
    choice = _choose(folder, config, pooling, hidden_size)
    is_own = not choice.config_fields and pooled_head(config) is None
    if needs_bias and is_own and reads_left_to_right(config) and _is_poolable(config):
        note = "pooling: last, with a bias in the output layer for the numbers' mean; the architecture's own has none."
        return HeadChoice(PooledHead("last", hidden_size).config_fields, note)
    return choice


def _choose(folder: Path, config: PretrainedConfig, pooling: str, hidden_size: int | None) -> HeadChoice:
    if pooling == "own":
        return OWN_HEAD
    if pooling == "auto":
        return _follow_folder(folder, config, hidden_size)
    if not _is_poolable(config):
        raise ModelError(
            f"pooling {pooling}: {type(config).__name__} of {folder} is no plain encoder or decoder, whose states "
            f"could be pooled. Use auto or own, or choose a model of another architecture."
        )
    if pooling == "cls" and reads_left_to_right(config):
        raise ModelError(
            f"pooling cls: {type(config).__name__} of {folder} reads from left to right, so that the first token's "
            f"state knows nothing of the text. Use last, mean, max or attention."
        )
    return HeadChoice(_fields(config, PooledHead(pooling, hidden_size)))


def _follow_folder(folder: Path, config: PretrainedConfig, hidden_size: int | None) -> HeadChoice:
    own = pooled_head(config)
    if own is not None:
        note = f"pooling: {own.pooling}, as the model's config.json says."
        return HeadChoice({} if hidden_size is None else _fields(config, replace(own, hidden_size=hidden_size)), note)
    asked, poolable = folder_pooling(folder), _is_poolable(config)
    if asked == "cls" and reads_left_to_right(config):
        why = f"{type(config).__name__} reads from left to right, so that the first token's state knows nothing of it"
        return HeadChoice(note=f"pooling: the architecture's own head; the model's folder asks for cls, but {why}.")
    if asked in POOLINGS and poolable:
        head = PooledHead(asked, hidden_size, folder_normalizes(folder))
        how = f"{asked}, scaled to length 1" if head.normalizes else asked
        return HeadChoice(_fields(config, head), f"pooling: {how}, as the model's folder asks (sentence-transformers).")
    if asked is not None:
        why = f"{type(config).__name__} takes no pooling" if asked in POOLINGS else "finesearch has no such pooling"
        note = f"pooling: the architecture's own head; the model's folder asks for {asked}, but {why}."
        return HeadChoice(note=note)
    native = getattr(config, NATIVE_FIELD, None)
    if native in NATIVE_POOLINGS:
        note = f"pooling: {native}, as {NATIVE_FIELD} in the model's config.json says."
        return HeadChoice(_fields(config, PooledHead(native, hidden_size)), note)
    if hidden_size is None or not poolable:
        return OWN_HEAD
    usual = "last" if reads_left_to_right(config) else "cls"
    note = f"pooling: {usual} under head_hidden_size, since the model's folder says none."
    return HeadChoice(_fields(config, PooledHead(usual, hidden_size)), note)


def head_words(config: PretrainedConfig) -> str:
    """The head that a config asks for, in words; those of two heads are equal where the heads are."""
    head, native = pooled_head(config), getattr(config, NATIVE_FIELD, None)
    if head is None:
        return "the architecture's own head" + (f" ({NATIVE_FIELD} {native})" if native is not None else "")
    length = ", scaled to length 1" if head.normalizes else ""
    layer = "" if head.hidden_size is None else f", a hidden layer of {head.hidden_size}"
    return f"the pooling {head.pooling}{length}{layer}"


def _fields(config: PretrainedConfig, head: PooledHead) -> Mapping[str, Any]:
    pooling = head.pooling
    if pooled_head(config) == head:
        return {}
    if head == PooledHead(pooling) and pooled_head(config) is None:
        if pooling in NATIVE_POOLINGS and getattr(config, NATIVE_FIELD, None) in NATIVE_POOLINGS:
            return {NATIVE_FIELD: pooling}
        if pooling == "last" and _has_decoder_class(config):
            # Decoders are classified by the last token in transformers.
            return {}
    return head.config_fields


def reads_left_to_right(config: PretrainedConfig) -> bool:
    """Whether the model is a decoder, whose tokens see only those before them, by its architecture or its config."""
    if config.is_encoder_decoder:
        return False
    own = config.get_text_config()
    is_causal = any(getattr(own, name, None) == value for name, value in CAUSAL_FIELDS.items())
    return is_causal or config.model_type in CAUSAL_TYPES or _has_decoder_class(config)


def _has_decoder_class(config: PretrainedConfig) -> bool:
    """Whether the class of transformers is that of a decoder: it takes the keys and values of tokens before."""
    from transformers import MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING

    kind = type(config)
    if config.is_encoder_decoder or kind not in MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING:
        return False
    model: Any = MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING[kind]
    return "past_key_values" in inspect.signature(model.forward).parameters


def _is_poolable(config: PretrainedConfig) -> bool:
    kind: Any = type(config)
    try:
        backbone_of(kind)
    except ValueError:
        return False
    return not config.is_encoder_decoder
