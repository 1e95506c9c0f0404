"""Exact match and F1 of answers, as SQuAD's own scorer computes them (Rajpurkar et al., 2016 and 2018), from 0 to 1.

No library that is maintained and small offers them (transformers dropped its copy with version 5), so the scorer's
rules stand here, each with an example: an answer is compared in small letters, without punctuation, articles and spare
spaces; of several true answers the one that fits best counts; a question without an answer is right only if none is
given.
"""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

_ARTICLES = re.compile(r"\b(a|an|the)\b", re.UNICODE)
_PUNCTUATION = frozenset(string.punctuation)


def normalize_answer(answer: str) -> str:
    """The answer as it is compared.

    >>> normalize_answer("The  U.S. Army's"), normalize_answer("an"), normalize_answer("co-operate, THEN")
    ('us armys', '', 'cooperate then')
    """
    bare = "".join(character for character in answer.lower() if character not in _PUNCTUATION)
    return " ".join(_ARTICLES.sub(" ", bare).split())


def exact_match(given: str, true: str) -> float:
    """1 where both are compared equal.

    >>> exact_match("The Rhine.", "Rhine"), exact_match("", "Rhine")
    (1.0, 0.0)
    """
    return float(normalize_answer(given) == normalize_answer(true))


def f1(given: str, true: str) -> float:
    """F1 of the words that both share, each as often as it stands in both; an empty answer fits an empty one alone.

    >>> f1("the river Rhine", "Rhine river valley"), f1("", ""), f1("Rhine", "")
    (0.8, 1.0, 0.0)
    """
    ours, theirs = normalize_answer(given).split(), normalize_answer(true).split()
    if not ours or not theirs:
        return float(ours == theirs)
    shared = sum((Counter(ours) & Counter(theirs)).values())
    if not shared:
        return 0.0
    precision, recall = shared / len(ours), shared / len(theirs)
    return 2 * precision * recall / (precision + recall)


METRICS: dict[str, Callable[[str, str], float]] = {"exact_match": exact_match, "f1": f1}


def max_over_answers(name: str, given: str, answers: Sequence[str]) -> float:
    """The metric against the true answer that fits best; without any true answer, against none.

    An answer that is compared as nothing (``"the"``) is no answer, as in the scorer.

    >>> max_over_answers("exact_match", "Rhine", ["the Main", "the Rhine"]), max_over_answers("f1", "", [])
    (1.0, 1.0)
    """
    real = [answer for answer in answers if normalize_answer(answer)] or [""]
    return max(METRICS[name](given, answer) for answer in real)


def null_threshold(margins: Sequence[float], answered: Sequence[float], unanswered: Sequence[float]) -> float:
    """The margin above which no answer is given, such that the sum of scores is the highest; the lowest such place.

    margins: how much better "no answer" scores than the answer, one a question. answered: the metric of each question's
    answer; unanswered: the metric of giving none. It is the scorer's ``find_best_thresh`` in the middle between two
    margins, so that rounding does not move a question over it.

    >>> null_threshold([-3.0, 1.0, 5.0], answered=[1.0, 1.0, 0.0], unanswered=[0.0, 0.0, 1.0])
    3.0
    """
    order = sorted(range(len(margins)), key=lambda i: margins[i])
    total = sum(unanswered)
    best, threshold = total, margins[order[0]] - 1.0
    for place, i in enumerate(order):
        total += answered[i] - unanswered[i]
        is_last = place + 1 == len(order)
        following = margins[i] + 2.0 if is_last else margins[order[place + 1]]
        # Questions of equal margin fall on one side together.
        if total > best and following > margins[i]:
            best, threshold = total, (margins[i] + following) / 2
    return threshold


def mean_score(name: str, predictions: Sequence[Mapping[str, Any]], references: Sequence[Sequence[str]]) -> float:
    """One metric, mean over the questions."""
    scores = question_scores(name, predictions, references)
    return sum(scores) / len(scores)


def question_scores(
    name: str, predictions: Sequence[Mapping[str, Any]], references: Sequence[Sequence[str]]
) -> list[float]:
    """One metric of each question."""
    return [max_over_answers(name, given["text"], true) for given, true in zip(predictions, references, strict=True)]
