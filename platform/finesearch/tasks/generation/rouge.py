"""ROUGE (Lin, 2004): shared words, word pairs and longest common subsequences, by rouge-score, as F-measures.

rouge-score treats only runs of a-z and digits as words: ``non_latin_share`` is the share of letters that it ignores.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cache
from typing import Any

ROUGE_METRICS = ("rouge1", "rouge2", "rougeL")


def rouge_f_measures(
    predictions: Sequence[str], references: Sequence[str], names: Iterable[str]
) -> dict[str, list[float]]:
    """The F-measure of each example under each name; no stemming, the whole text as one sentence.

    >>> rouge_f_measures(["the cat sat"], ["the cat sat down"], ["rouge1"])
    {'rouge1': [0.8571428571428571]}
    """
    names = tuple(names)
    scorer = _scorer(names)
    scores = [scorer.score(true, given) for given, true in zip(predictions, references, strict=True)]
    return {name: [float(score[name].fmeasure) for score in scores] for name in names}


def non_latin_share(texts: Iterable[str]) -> float:
    """Share of the letters that are not a-z, regardless of case.

    >>> non_latin_share(["Ab", "жз"])
    0.5
    """
    letters = foreign = 0
    for text in texts:
        for character in text.lower():
            if character.isalpha():
                letters += 1
                foreign += not "a" <= character <= "z"
    return foreign / letters if letters else 0.0


@cache
def _scorer(names: tuple[str, ...]) -> Any:
    from rouge_score.rouge_scorer import RougeScorer

    return RougeScorer(list(names), use_stemmer=False)
