"""The tokenizer of a model folder, and its SHA-256; ``weights/`` has the weight files."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from finesearch.errors import ModelError
from finesearch.storage.checksummed_dirs import file_sha256
from finesearch.training.runtime.deepspeed_engine import prepare_imports

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

TOKENIZER_PATTERNS = (
    "tokenizer*",
    "chat_template*",
    "vocab*",
    "merges.txt",
    "special_tokens_map.json",
    "added_tokens.json",
    "*.model",
    "*.spm",
    "bpe.codes",
    "spiece*",
)


def tokenizer_sha256(folder: Path) -> str:
    """A hash that changes whenever the tokenizer would split a text differently."""
    files = sorted({path for pattern in TOKENIZER_PATTERNS for path in folder.glob(pattern) if path.is_file()})
    return hashlib.sha256("".join(f"{path.name}:{file_sha256(path)}\n" for path in files).encode()).hexdigest()


def load_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    """The folder's tokenizer; one without a padding token pads with its end token.

    Raises:
        ModelError: there is none, it requires custom code, or it has neither token.
    """
    prepare_imports()
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    except Exception as error:  # the package tokenizers raises plain ones for files that it cannot read
        first_line = (str(error).strip() or "no details").splitlines()[0]
        raise _no_tokenizer(folder, f"{type(error).__name__}: {first_line}") from error
    if len(tokenizer) <= len(set(tokenizer.all_special_tokens)):
        # Without a vocabulary file, transformers returns a tokenizer with an empty vocabulary.
        raise _no_tokenizer(folder, "its vocabulary is empty")
    if tokenizer.pad_token_id is None:
        if tokenizer.eos_token_id is None:
            raise ModelError(
                f"task.model: the tokenizer in {folder} has neither a padding nor an end token, so that batches cannot "
                f"be padded. Name one as pad_token in its tokenizer_config.json."
            )
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def _no_tokenizer(folder: Path, why: str) -> ModelError:
    return ModelError(
        f"task.model: no tokenizer could be loaded from {folder} ({why}). Expected tokenizer.json and "
        f"tokenizer_config.json beside the weights."
    )


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """No progress bars and no notes about new output layers while a model is loaded or saved."""
    prepare_imports()
    from transformers.utils import logging as hf_logging

    verbosity, bars = hf_logging.get_verbosity(), hf_logging.is_progress_bar_enabled()
    hf_logging.set_verbosity(logging.ERROR)
    hf_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        hf_logging.set_verbosity(verbosity)
        if bars:
            hf_logging.enable_progress_bar()  # type: ignore[no-untyped-call]
