"""Scores on test with bootstrap intervals.

Every metric is a function of sums over rows, so that drawing rows again costs one product of matrices. 95 % intervals
are percentiles over ``DRAWS`` resamples of the rows (Efron, 1979), the same for everybody: differences are paired.
"""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from peers.contest import ENTITIES, QUESTIONS, Contest

DRAWS = 2000
Array = NDArray[np.float64]


@dataclass(frozen=True)
class Score:
    """A metric on test. draws: the same of each resample, shape (DRAWS,)."""

    value: float
    draws: Array

    @property
    def interval(self) -> tuple[float, float]:
        return _interval(self.draws)

    def gain_over(self, other: Score) -> tuple[float, float, float]:
        """Paired difference to another's, and its interval."""
        return (self.value - other.value, *_interval(self.draws - other.draws))


def score(contest: Contest, predictions: Sequence[Any], split: str = "test") -> Score:
    """The contest's metric of answers to the rows of a split.

    Raises:
        ValueError: there is not one answer a row, or the metric is none of those below.
    """
    references = contest.references(split)
    if len(predictions) != len(references):
        raise ValueError(f"{len(predictions)} answers to {len(references)} rows of {split}")
    counts, reduce = _counted(contest, predictions, references)
    rows = len(references)
    drawn = np.random.default_rng(0).multinomial(rows, np.full(rows, 1 / rows), size=DRAWS)
    return Score(float(reduce(counts.sum(0)[None])[0]), reduce(drawn @ counts))


def _interval(draws: Array) -> tuple[float, float]:
    low, high = np.percentile(draws, [2.5, 97.5])
    return float(low), float(high)


def _counted(
    contest: Contest, predictions: Sequence[Any], references: Sequence[Any]
) -> tuple[Array, Callable[[Array], Array]]:
    """Counts by row, (N, K), and what makes scores (D,) of sums (D, K)."""
    pairs = list(zip(predictions, references, strict=True))
    metric = contest.metric
    if contest.kind == ENTITIES and metric == "f1":
        return np.array([[len(said & true), len(said), len(true)] for said, true in pairs], float), _f1
    if contest.kind == QUESTIONS and metric in ("f1", "exact_match"):
        measure = token_f1 if metric == "f1" else exact_match
        return _valued([max([measure(said, one) for one in true or [""]]) for said, true in pairs])
    if metric == "accuracy":
        return _valued([float(said == true) for said, true in pairs])
    if metric == "micro_f1":
        none = contest.no_relation
        return np.array([[said == true != none, said != none, true != none] for said, true in pairs], float), _f1
    if metric == "macro_f1":
        return _by_class(pairs)
    if metric == "bleu":
        return _bleu(pairs)
    if metric in ("rouge1", "rouge2", "rougeL"):
        from rouge_score.rouge_scorer import RougeScorer

        scorer = RougeScorer([metric], use_stemmer=False)
        return _valued([scorer.score(true, said)[metric].fmeasure for said, true in pairs])
    raise ValueError(f"{contest.plan}: this benchmark does not compute {metric} of {contest.kind}")


def _valued(values: list[float]) -> tuple[Array, Callable[[Array], Array]]:
    return np.array([[value, 1.0] for value in values]), lambda sums: sums[:, 0] / sums[:, 1]


def _f1(sums: Array) -> Array:
    """F1 from right, said and true ones."""
    return np.asarray(2 * sums[:, 0] / np.maximum(1, sums[:, 1] + sums[:, 2]))


def _by_class(pairs: list[tuple[Any, Any]]) -> tuple[Array, Callable[[Array], Array]]:
    labels = sorted({label for pair in pairs for label in pair})
    said = np.array([[one == label for label in labels] for one, _ in pairs], float)
    true = np.array([[one == label for label in labels] for _, one in pairs], float)

    def macro(sums: Array) -> Array:
        right, of_said, of_true = np.split(sums, 3, axis=1)
        there = of_said + of_true > 0
        return np.asarray((2 * right / np.maximum(1, of_said + of_true)).sum(1) / np.maximum(1, there.sum(1)))

    return np.hstack([said * true, said, true]), macro


def _bleu(pairs: list[tuple[Any, Any]]) -> tuple[Array, Callable[[Array], Array]]:
    from sacrebleu.metrics import BLEU

    bleu = BLEU()
    single = [bleu.corpus_score([said], [[true]]) for said, true in pairs]
    counts = [[*one.counts, *one.totals, one.sys_len, one.ref_len] for one in single]

    def of_corpus(sums: Array) -> Array:
        rounded = sums.astype(int).tolist()
        made = (BLEU.compute_bleu(one[:4], one[4:8], one[8], one[9], smooth_method="exp") for one in rounded)
        return np.array([one.score for one in made])

    return np.array(counts, float), of_corpus


def exact_match(said: str, true: str) -> float:
    return float(_plain(said) == _plain(true))


def token_f1(said: str, true: str) -> float:
    """F1 of the words of two answers, as SQuAD counts it (Rajpurkar et al., 2016).

    >>> token_f1("the red house", "A house, red!"), round(token_f1("a big house", "house"), 3)
    (1.0, 0.667)
    """
    one, other = _plain(said).split(), _plain(true).split()
    common = sum((Counter(one) & Counter(other)).values())
    if not one or not other:
        return float(one == other)
    return 2 * common / (len(one) + len(other))


def _plain(text: str) -> str:
    without = "".join(letter for letter in text.lower() if letter not in string.punctuation)
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", without).split())
