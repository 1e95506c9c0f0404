"""Answers that are copied: of the nearest row of train, or of the question's own row."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from peers.contest import Contest, Row, last_reply
from peers.scores import score, token_f1

MOST_SENTENCES = 4
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+|\n+")


def best_sentence(contest: Contest) -> tuple[list[Any], float]:
    """The sentence of the context that shares most words with the question."""
    return _scored(contest, [_best_sentence(row) for row in contest.splits["test"]], _best_sentence)


def _best_sentence(row: Row) -> str:
    return max(sentences(row["context"]), key=lambda one: token_f1(one, row["question"]))


def source(contest: Contest) -> tuple[list[Any], float]:
    """The source, copied."""
    return _scored(contest, [str(row["source"]) for row in contest.splits["test"]], lambda row: str(row["source"]))


def nearest_translation(contest: Contest) -> tuple[list[Any], float]:
    """The translation of the nearest source of train, by TF-IDF of characters (2-5)."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    bags = TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 5), sublinear_tf=True)
    known = bags.fit_transform([str(row["source"]) for row in contest.splits["train"]])
    targets = contest.references("train")

    def answers(split: str) -> list[Any]:
        asked = bags.transform([str(row["source"]) for row in contest.splits[split]])
        return [targets[int(place)] for place in (asked @ known.T).argmax(axis=1).A1]

    return answers("test"), score(contest, answers("validation"), "validation").value


def first_sentences(contest: Contest) -> tuple[list[Any], float]:
    """The first sentences of the text, as many as are best on validation."""
    best: tuple[float, int] = (-1.0, 0)
    for count in range(1, MOST_SENTENCES + 1):
        said = [" ".join(sentences(row["text"])[:count]) for row in contest.splits["validation"]]
        best = max(best, (score(contest, said, "validation").value, count))
    return [" ".join(sentences(row["text"])[: best[1]]) for row in contest.splits["test"]], best[0]


def nearest_reply(contest: Contest) -> tuple[list[Any], float]:
    """The reply to the turn of train that BM25 finds nearest (Robertson and Zaragoza, 2009)."""
    import bm25s

    pairs = [
        (turns[place - 1]["content"], turns[place]["content"].strip())
        for turns in (row["messages"] for row in contest.splits["train"])
        for place in range(1, len(turns))
        if turns[place]["role"] == "assistant"
    ]
    index = bm25s.BM25()
    index.index(bm25s.tokenize([before for before, _ in pairs], show_progress=False), show_progress=False)

    def answers(split: str) -> list[Any]:
        asked = [last_reply(row["messages"])[0] for row in contest.splits[split]]
        found, _ = index.retrieve(bm25s.tokenize(asked, show_progress=False), k=1, show_progress=False)
        return [pairs[int(place)][1] for place in found[:, 0]]

    return answers("test"), score(contest, answers("validation"), "validation").value


def sentences(text: str) -> Sequence[str]:
    """Sentences or lines of a text.

    >>> sentences("One. Two!\\nThree")
    ['One.', 'Two!', 'Three']
    """
    return [one.strip() for one in _SENTENCE_END.split(text) if one.strip()]


def _scored(contest: Contest, answers: list[Any], answer: Any) -> tuple[list[Any], float]:
    said = [answer(row) for row in contest.splits["validation"]]
    return answers, score(contest, said, "validation").value
