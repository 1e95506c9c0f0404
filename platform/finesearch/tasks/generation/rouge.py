"""ROUGE (Lin, 2004): shared words, word pairs and longest common subsequences, by rouge-score, as F-measures.

Its own words are runs of a-z and digits (``latin``); ``unicode`` counts the words of any script (``words_of``).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cache
from typing import Any

from finesearch.plan.sections.task_kinds import LATIN, UNICODE
from finesearch.tasks.encoding.scripts import words_of

ROUGE_METRICS = ("rouge1", "rouge2", "rougeL")


def rouge_f_measures(
    predictions: Sequence[str], references: Sequence[str], names: Iterable[str], tokenizer: str = LATIN
) -> dict[str, list[float]]:
    """The F-measure of each example under each name; no stemming, the whole text as one sentence.

    >>> rouge_f_measures(["the cat sat"], ["the cat sat down"], ["rouge1"])
    {'rouge1': [0.8571428571428571]}
    >>> rouge_f_measures(["сегодня хорошая погода"], ["сегодня хорошая погода"], ["rougeL"], "unicode")
    {'rougeL': [1.0]}
    """
    names = tuple(names)
    scorer = _scorer(names, tokenizer)
    scores = [scorer.score(true, given) for given, true in zip(predictions, references, strict=True)]
    return {name: [float(score[name].fmeasure) for score in scores] for name in names}


@cache
def _scorer(names: tuple[str, ...], tokenizer: str) -> Any:
    from rouge_score.rouge_scorer import RougeScorer
    from rouge_score.tokenizers import Tokenizer

    class UnicodeWords(Tokenizer):  # type: ignore[misc]
        def tokenize(self, text: str) -> list[str]:
            return words_of(text)

    return RougeScorer(list(names), use_stemmer=False, tokenizer=UnicodeWords() if tokenizer == UNICODE else None)
