"""Where an encoder-decoder's answers begin. Exports take this file along: it needs Python alone."""

from __future__ import annotations

from typing import Any


def decoder_start_token(config: Any, tokenizer: Any) -> int:
    """The token with which an encoder-decoder's answers begin, where its config does not say: a text's first one."""
    starts = (
        getattr(config, "decoder_start_token_id", None),
        getattr(config, "bos_token_id", None),
        tokenizer.bos_token_id,
        tokenizer.cls_token_id,
        tokenizer.pad_token_id,
    )
    return int(next(token for token in starts if token is not None))
