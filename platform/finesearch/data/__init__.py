"""Data: reading sources, train/validation/test splits, tokenized Arrow files, batches by length."""

from finesearch.data.batches import evaluation_batches, shard, training_batches
from finesearch.data.readers.builtin_docstrings import standard_library_docstrings
from finesearch.data.splits import load_splits
from finesearch.data.token_budget import EVALUATION_TOKENS_PER_PASS, num_passes_within, token_budget_batches
from finesearch.data.tokenize_splits import TokenizedSplits, tokenize
from finesearch.data.tokenized_split import TokenizedSplit
from finesearch.tasks.raw_splits import SPLITS, Origin, RawSplits

__all__ = [
    "EVALUATION_TOKENS_PER_PASS", "SPLITS", "Origin", "RawSplits", "TokenizedSplit", "TokenizedSplits",
    "token_budget_batches",
    "evaluation_batches", "load_splits", "num_passes_within", "shard", "standard_library_docstrings", "tokenize",
    "training_batches",
]  # fmt: skip
