"""Exact match and F1 of answers, as SQuAD's official scorer computes them (Rajpurkar et al., 2016 and 2018), 0 to 1.

No small, maintained library has them (transformers dropped its copy in version 5), so the scorer's rules are
implemented here, each with an example: answers are compared in lower case, without punctuation, articles and extra
spaces; of several true answers, the best match counts; for an unanswerable question, only an empty answer is correct.
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
    """The answer as it is compared: lower case, without punctuation, articles and extra spaces.

    >>> normalize_answer("The  U.S. Army's"), normalize_answer("an"), normalize_answer("co-operate, THEN")
    ('us armys', '', 'cooperate then')
    """
    bare = "".join(character for character in answer.lower() if character not in _PUNCTUATION)
    return " ".join(_ARTICLES.sub(" ", bare).split())


def exact_match(given: str, true: str) -> float:
    """1 if both are equal after normalisation, else 0.

    >>> exact_match("The Rhine.", "Rhine"), exact_match("", "Rhine")
    (1.0, 0.0)
    """
    return float(normalize_answer(given) == normalize_answer(true))


def f1(given: str, true: str) -> float:
    """F1 of the shared words, with multiplicity; an empty answer matches only an empty one.

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
    """The metric against the best-matching true answer; without true answers, against an empty one.

    A true answer that is empty after normalisation (``"the"``) is ignored, as in the official scorer.

    >>> max_over_answers("exact_match", "Rhine", ["the Main", "the Rhine"]), max_over_answers("f1", "", [])
    (1.0, 1.0)
    """
    real = [answer for answer in answers if normalize_answer(answer)] or [""]
    return max(METRICS[name](given, answer) for answer in real)


def null_threshold(margins: Sequence[float], answered: Sequence[float], unanswered: Sequence[float]) -> float:
    """The margin above which no answer is given: maximises the sum of scores, the lowest such threshold.

    margins: how much better "no answer" scores than the answer, one per question. answered: the metric of each
    question's answer; unanswered: the metric of giving none. Like the scorer's ``find_best_thresh``, but midway between
    two margins, so that rounding does not move a question across it.

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
        # Questions of equal margin are on the same side.
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
    """One metric for each question."""
    return [max_over_answers(name, given["text"], true) for given, true in zip(predictions, references, strict=True)]
