"""BLEU (Papineni et al., 2002) and chrF (Popović, 2015) of whole corpora, by sacrebleu, from 0 to 100.

Both are computed from a few counts summed over sentences, so a bootstrap computes each sentence's counts only once.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np

from finesearch.tasks.generation.metric_tokenizers import DEFAULT_BLEU

MAX_SCORE = 100.0
CORPUS_METRICS = ("bleu", "chrf")


def corpus_score(
    name: str, predictions: Sequence[str], references: Sequence[str], tokenizer: str = DEFAULT_BLEU
) -> float:
    """The score that the command ``sacrebleu`` prints for these lines; chrF reads characters and has no tokenizer.

    >>> corpus_score("bleu", ["a dog runs on the grass"], ["a dog runs on the grass"])
    100.00000000000004
    """
    return float(_metric(name, tokenizer).corpus_score(list(predictions), [list(references)]).score)


def sentence_counts(
    name: str, predictions: Sequence[str], references: Sequence[str], tokenizer: str = DEFAULT_BLEU
) -> np.ndarray:
    """Counts of each sentence, int64 (n, k); a corpus's score is computed from their sums."""
    counts = _metric(name, tokenizer)._extract_corpus_statistics(list(predictions), [list(references)])
    return np.array(counts, dtype=np.int64)


def scores_of_sums(name: str, sums: np.ndarray) -> np.ndarray:
    """The scores of r corpora from their summed counts (r, k); (r,)."""
    metric = _metric(name, DEFAULT_BLEU)
    return np.array([metric._compute_score_from_stats(row).score for row in sums.tolist()], dtype=float)


@cache
def _metric(name: str, tokenizer: str) -> Any:
    from sacrebleu.metrics.bleu import BLEU
    from sacrebleu.metrics.chrf import CHRF

    return BLEU(tokenize=tokenizer) if name == "bleu" else CHRF()
