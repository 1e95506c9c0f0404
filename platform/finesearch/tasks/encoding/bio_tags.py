"""BIO tags: conversion between labelled spans of a text and tags of its words.

A span is a list ``[start, end, label]``, end exclusive, counted in tokens or in characters: JSON-serialisable.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

Span = list[int | str]

# Scripts without spaces between words are split into single characters; all others into words and punctuation.
_CHARACTERS = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
_WORD = re.compile(rf"[{_CHARACTERS}]|[^\W{_CHARACTERS}]+|[^\w\s]")


def bio_tag_names(labels: Sequence[str]) -> tuple[str, ...]:
    """Every tag of the BIO scheme (IOB2) for some labels, ``O`` first.

    >>> bio_tag_names(["LOC", "PER"])
    ('O', 'B-LOC', 'I-LOC', 'B-PER', 'I-PER')
    """
    return ("O", *(f"{prefix}-{label}" for label in labels for prefix in "BI"))


def is_bio_tag(text: object) -> bool:
    """Whether ``text`` is ``O``, ``B-x`` or ``I-x`` with some label x.

    >>> [is_bio_tag(text) for text in ("O", "B-LOC", "I-a b", "LOC", "E-LOC", "B-", 3)]
    [True, True, True, False, False, False, False]
    """
    return isinstance(text, str) and (text == "O" or (text[:2] in ("B-", "I-") and len(text) > 2))


def tags_to_spans(tags: Sequence[str]) -> list[Span]:
    """The entities in a tag sequence, in order, as ``conlleval`` (Tjong Kim Sang and Buchholz, 2000) reads them.

    An entity starts at ``B-x``, and at ``I-x`` if the tag before is ``O`` or has another label; it ends before the next
    ``O`` or start of an entity.

    >>> tags_to_spans(["B-PER", "I-PER", "B-PER", "O", "I-LOC", "I-PER"])
    [[0, 2, 'PER'], [2, 3, 'PER'], [4, 5, 'LOC'], [5, 6, 'PER']]
    """
    spans: list[Span] = []
    before = "O"
    for number, tag in enumerate(tags):
        if tag != "O":
            continues = tag[0] == "I" and before != "O" and before[2:] == tag[2:]
            if continues:
                spans[-1][1] = number + 1
            else:
                spans.append([number, number + 1, tag[2:]])
        before = tag
    return spans


def word_spans(text: str) -> list[tuple[int, int]]:
    """[start, end) of each word or punctuation mark of a text: the tagged units of texts that are not pre-split.

    >>> text = "Dr. Wu (北京) isn't in."
    >>> [text[start:end] for start, end in word_spans(text)]
    ['Dr', '.', 'Wu', '(', '北', '京', ')', 'isn', "'", 't', 'in', '.']
    """
    return [match.span() for match in _WORD.finditer(text)]


def spans_to_tags(words: Sequence[tuple[int, int]], spans: Sequence[Span]) -> tuple[list[str], int]:
    """The tag of each word, and how many spans do not start and end at word boundaries.

    words and spans are in order and do not overlap. A word belongs to the first span that it shares a character with.

    >>> spans_to_tags([(0, 2), (3, 7), (8, 9)], [[0, 6, "LOC"]])
    (['B-LOC', 'I-LOC', 'O'], 1)
    """
    tags = ["O"] * len(words)
    starts, ends = {start for start, _ in words}, {end for _, end in words}
    first = 0
    for start, end, label in spans:
        while first < len(words) and words[first][1] <= int(start):
            first += 1
        inside = first
        while inside < len(words) and words[inside][0] < int(end):
            if tags[inside] == "O":
                tags[inside] = f"{'B' if inside == first else 'I'}-{label}"
            inside += 1
    return tags, sum(start not in starts or end not in ends for start, end, _ in spans)
