"""What needs no model: words and characters counted, and a linear classifier or a conditional random field on them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from peers.contest import CLASSES, ENTITIES, Contest, Row, entities
from peers.scores import score

INVERSE_PENALTIES = (0.3, 1.0, 3.0, 10.0, 30.0, 100.0)
L1_L2 = ((0.1, 0.01), (0.1, 0.1), (0.01, 0.1))


def words_and_characters(contest: Contest) -> tuple[list[Any], float]:
    """Labels from TF-IDF of words (1-2) and characters (2-5) with logistic regression, C chosen on validation.

    A relation's text has marks around its entities. Returns the answers on test, and the score on validation.
    """
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_union

    bags = make_union(
        TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True),
        TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 5), sublinear_tf=True),
    )
    x = {"train": bags.fit_transform(texts(contest, "train"))}
    x |= {split: bags.transform(texts(contest, split)) for split in ("validation", "test")}
    best: tuple[float, Any] = (-1.0, None)
    for penalty in INVERSE_PENALTIES:
        fitted = LogisticRegression(C=penalty, max_iter=1000).fit(x["train"], contest.references("train"))
        value = score(contest, list(fitted.predict(x["validation"])), "validation").value
        best = max(best, (value, fitted), key=lambda one: one[0])
    return [str(label) for label in best[1].predict(x["test"])], best[0]


def texts(contest: Contest, split: str) -> list[str]:
    """Texts of classification, or of relations with marks around head and tail."""
    rows = contest.splits[split]
    return [str(row["text"]) for row in rows] if contest.kind == CLASSES else [" ".join(marked(row)) for row in rows]


def marked(row: Row) -> list[str]:
    """The tokens of a relation with ``[E1] … [/E1]`` around the head and ``[E2] … [/E2]`` around the tail.

    >>> marked({"tokens": ["Ada", "met", "Bob"], "head": [2, 3], "tail": [0, 1]})
    ['[E2]', 'Ada', '[/E2]', 'met', '[E1]', 'Bob', '[/E1]']
    """
    tokens = [str(token) for token in row["tokens"]]
    spans = sorted([(*row["head"], "E1"), (*row["tail"], "E2")], reverse=True)
    for start, end, name in spans:
        tokens[start:end] = [f"[{name}]", *tokens[start:end], f"[/{name}]"]
    return tokens


def random_field(contest: Contest) -> tuple[list[Any], float]:
    """Entities by a conditional random field (Lafferty et al., 2001) on word shapes, penalties chosen on validation."""
    from sklearn_crfsuite import CRF

    assert contest.kind == ENTITIES
    x = {split: [_shapes(row["tokens"]) for row in rows] for split, rows in contest.splits.items()}
    tags = [list(row["tags"]) for row in contest.splits["train"]]
    best: tuple[float, Any] = (-1.0, None)
    for l1, l2 in L1_L2:
        field = CRF(algorithm="lbfgs", c1=l1, c2=l2, max_iterations=100, all_possible_transitions=True)
        field.fit(x["train"], tags)
        value = score(contest, [entities(list(one)) for one in field.predict(x["validation"])], "validation").value
        best = max(best, (value, field), key=lambda one: one[0])
    return [entities(list(one)) for one in best[1].predict(x["test"])], best[0]


def _shapes(tokens: Sequence[str]) -> list[dict[str, Any]]:
    """Of each token: itself, affixes, its shape, and those of both neighbours."""
    own = [
        {
            "word": token.lower(),
            "shape": _shape(token),
            "title": token.istitle(),
            "upper": token.isupper(),
            **{f"prefix{n}": token[:n] for n in (2, 3)},
            **{f"suffix{n}": token[-n:] for n in (2, 3)},
        }
        for token in tokens
    ]  # fmt: skip
    padded = [{"word": "<s>"}, *own, {"word": "</s>"}]
    return [
        {"bias": 1.0, **here}
        | {f"-1:{name}": value for name, value in padded[place].items()}
        | {f"+1:{name}": value for name, value in padded[place + 2].items()}
        for place, here in enumerate(own)
    ]


def _shape(token: str) -> str:
    """Capitals as X, small letters as x, digits as d, at most six characters.

    >>> _shape("Ab-12cde")
    'Xx-ddx'
    """
    return "".join("X" if c.isupper() else "x" if c.islower() else "d" if c.isdigit() else c for c in token)[:6]


def longest_matches(contest: Contest) -> tuple[list[Any], float]:
    """Entities of train wherever they stand again, the longest first."""
    known: dict[tuple[str, ...], str] = {}
    for row in contest.splits["train"]:
        for start, end, label in sorted(entities(row["tags"])):
            known.setdefault(tuple(row["tokens"][start:end]), label)
    answers = {split: [_matches(row["tokens"], known) for row in rows] for split, rows in contest.splits.items()}
    return list(answers["test"]), score(contest, answers["validation"], "validation").value


def _matches(tokens: Sequence[str], known: dict[tuple[str, ...], str]) -> set[tuple[int, int, str]]:
    found, start = set(), 0
    longest = max(map(len, known), default=0)
    while start < len(tokens):
        ends = range(min(len(tokens), start + longest), start, -1)
        end = next((end for end in ends if tuple(tokens[start:end]) in known), None)
        if end is not None:
            found.add((start, end, known[tuple(tokens[start:end])]))
        start = end or start + 1
    return found
