"""From files to batches: sources, splits, tokens kept in Arrow, length buckets."""

from finesearch.data.batches import evaluation_batches, shard, training_batches
from finesearch.data.readers.builtin_docstrings import standard_library_docstrings
from finesearch.data.splits import load_splits
from finesearch.data.token_budget import EVALUATION_TOKENS, budget_batches, passes_within
from finesearch.data.tokenize_splits import TokenisedSplits, tokenise
from finesearch.data.tokenized_split import TokenSplit
from finesearch.tasks.raw_splits import SPLITS, Origin, RawSplits

__all__ = [
    "EVALUATION_TOKENS", "SPLITS", "Origin", "RawSplits", "TokenSplit", "TokenisedSplits", "budget_batches",
    "evaluation_batches", "load_splits", "passes_within", "shard", "standard_library_docstrings", "tokenise",
    "training_batches",
]  # fmt: skip
