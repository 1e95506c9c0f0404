"""Injects a trained soft prompt or prefix into a model, by wrapping the forward of the module that reads the text.

    site                   what is wrapped               what the module sees
    an encoder classifies  the whole model               prompt before the embeddings; a head that pools the first
                                                         token gets the prompt's first, as in peft
    encoder-decoder        the encoder, and around both  prompt before the encoder's embeddings, and a longer mask
    all others             the backbone                  prompt before the embeddings; the states of the prompt are
                                                         cut off, so that labels and positions stay the text's own
    prefix                 the backbone                  keys and values before every layer's own, by the cache

The forward is wrapped, not hooked: DeepSpeed's ZeRO-3 must see a module's call before the calls of its submodules.
During generation the prompt is already in the key-value cache, so later steps only account for its length.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from torch import Tensor, nn
    from transformers import PreTrainedModel


from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedModel


Named = dict[str, Any]


def prepend_to_inputs(model: PreTrainedModel) -> None:
    """Prepend the embeddings of the model's ``prompt_encoder`` to those of every text, in place."""
    if model.config.is_encoder_decoder:
        encoder: Any = model.get_encoder()
        _wrap(encoder, lambda named: _embeddings_before(model, encoder, named))
        _wrap(model.base_model, lambda named: _longer_mask(model, "attention_mask", named))
    elif has_encoder_classifier(model):
        _wrap(model, lambda named: _embeddings_before(model, model, named))
    else:
        stack = model.base_model
        _wrap(stack, lambda named: _embeddings_before(model, stack, named), lambda outputs: _cut(model, outputs))


def prepend_to_keys(model: PreTrainedModel) -> None:
    """Prepend the keys and values of the model's ``prompt_encoder`` to those of every layer, in place."""
    _wrap(model.base_model, lambda named: _keys_before(model, named))


def encode_prompt(model: PreTrainedModel) -> Tensor:
    """The prompt encoder's output for its N tokens: (N, width)."""
    encoder: Any = model.get_submodule(PROMPT_ENCODER)
    tokens = torch.arange(_count(model), device=encoder.embedding.weight.device)
    prompt: Tensor = encoder(tokens[None])[0]
    return prompt


def _wrap(
    module: nn.Module, before: Callable[[Named], Named], after: Callable[[Any], Any] = lambda outputs: outputs
) -> None:
    """Wrap the module's forward: arguments go through ``before``, outputs through ``after``.

    ``after`` is skipped when the arguments contain no text: the prompt is in the cache already.
    """
    plain = module.forward
    names = list(inspect.signature(plain).parameters)

    # Generation reads the signature.
    @functools.wraps(plain)
    def forward(*arguments: Any, **named: Any) -> Any:
        named = before({**dict(zip(names, arguments, strict=False)), **named})
        outputs = plain(**named)
        return after(outputs) if named.get("inputs_embeds") is not None else outputs

    module.forward = forward


def _embeddings_before(model: PreTrainedModel, module: Any, named: Named) -> Named:
    """Arguments with the prompt (N, d) before the embeddings (B, T, d), and masks and the like extended by N."""
    count = _count(model)
    ids, embedded = named.pop("input_ids", None), named.get("inputs_embeds")
    text: Any = embedded if ids is None else ids
    batch, length = text.shape[:2]
    mask, positions = named.get("attention_mask"), named.get("position_ids")
    # In an encoder-decoder, the mask was already extended.
    if mask is not None and (mask.shape[1] == length or _is_filled(named)):
        named["attention_mask"] = _ones_before(mask, count)
    if positions is not None:
        named["position_ids"] = positions + count
    if _is_filled(named):
        return {**named, "input_ids": ids}
    embedded = module.get_input_embeddings()(ids) if embedded is None else embedded
    prompt = encode_prompt(model)[None].expand(batch, -1, -1).to(embedded.dtype)
    named["inputs_embeds"] = torch.cat((prompt, embedded), dim=1)
    if named.get("token_type_ids") is not None:
        types = named["token_type_ids"]
        named["token_type_ids"] = torch.cat((types.new_zeros(batch, count), types), dim=1)
    if positions is not None:
        first = torch.arange(count, device=positions.device).expand(batch, count)
        named["position_ids"] = torch.cat((first, positions + count), dim=1)
    return named


def _keys_before(model: PreTrainedModel, named: Named) -> Named:
    """Arguments with a cache that holds the prompt's keys and values, and with mask and positions that include them."""
    from transformers import DynamicCache, EncoderDecoderCache

    count, seq2seq = _count(model), model.config.is_encoder_decoder
    own = "decoder_" if seq2seq else ""
    named = _longer_mask(model, f"{own}attention_mask", named)
    if named.get("position_ids") is not None:
        named["position_ids"] = named["position_ids"] + count
    if _is_filled(named):
        return named
    ids = named.get(f"{own}input_ids")
    text: Any = named.get(f"{own}inputs_embeds") if ids is None else ids
    layers: Any = DynamicCache(config=cache_config(model))
    encoder: Any = model.get_submodule(PROMPT_ENCODER)
    heads, batch = encoder.num_heads, len(text)
    # (N, layers * 2 * heads * width) to (layers * 2, B, heads, N, width).
    states = encode_prompt(model).view(count, -1, heads, encoder.head_width).permute(1, 2, 0, 3)
    states = states[:, None].expand(-1, batch, -1, -1, -1)
    for layer in range(len(states) // 2):
        layers.update(states[2 * layer], states[2 * layer + 1], layer)
    # Not the empty cache from generation: for a T5 with more decoder than encoder layers it is too short.
    cache = EncoderDecoderCache(layers, DynamicCache(config=cache_config(model))) if seq2seq else layers
    return {**named, "past_key_values": cache}


def _longer_mask(model: PreTrainedModel, name: str, named: Named) -> Named:
    mask = named.get(name)
    return named if mask is None else {**named, name: _ones_before(mask, _count(model))}


def _ones_before(mask: Tensor, count: int) -> Tensor:
    return torch.cat((mask.new_ones(len(mask), count), mask), dim=1)


def _cut(model: PreTrainedModel, outputs: Any) -> Any:
    outputs["last_hidden_state"] = outputs.last_hidden_state[:, _count(model) :]
    return outputs


def _is_filled(named: Named) -> bool:
    cache = named.get("past_key_values")
    return cache is not None and cache.get_seq_length() > 0


def _count(model: PreTrainedModel) -> int:
    encoder: Any = model.get_submodule(PROMPT_ENCODER)
    return int(encoder.embedding.num_embeddings)


PROMPT_ENCODER = "prompt_encoder"
"""Name of the module that holds a model's prompt."""


def cache_config(model: PreTrainedModel) -> Any:
    """The config of the module that caches keys and values: the decoder's, if there is an encoder too."""
    whole: Any = model
    return whole.get_decoder().config if model.config.is_encoder_decoder else model.config


def has_encoder_classifier(model: PreTrainedModel) -> bool:
    """Whether the head classifies a text by an encoder's states; decoders use the text's last token."""
    names = inspect.signature(model.forward).parameters
    return type(model).__name__.endswith("ForSequenceClassification") and "past_key_values" not in names
