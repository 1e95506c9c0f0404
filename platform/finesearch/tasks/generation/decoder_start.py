"""Decoder start token of encoder-decoders. Exports include a copy of this file, so it needs only Python."""

from __future__ import annotations

from typing import Any


def decoder_start_token(config: Any, tokenizer: Any) -> int:
    """The config's decoder start token; if it has none, the first token of a tokenized text."""
    starts = (
        getattr(config, "decoder_start_token_id", None),
        getattr(config, "bos_token_id", None),
        tokenizer.bos_token_id,
        tokenizer.cls_token_id,
        tokenizer.pad_token_id,
    )
    return int(next(token for token in starts if token is not None))
