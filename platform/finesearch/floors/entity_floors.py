"""Floors of named entities: a conditional random field over word shapes, and the entities that train has."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from finesearch.floors.floor import Floor, FloorData, FloorPredictions, Rows
from finesearch.tasks.encoding.bio_tags import Span, spans_to_tags, tags_to_spans
from finesearch.tasks.extraction.entity_rows import WordSpans, word_spans_of_rows

if TYPE_CHECKING:
    Words = tuple[str, ...]

NEIGHBOURS = (-2, -1, 1, 2)
AFFIXES = (1, 2, 3, 4)
ITERATIONS = 100
PENALTY = 0.1
"""Of both kinds, L1 and L2, as in the documentation of sklearn-crfsuite."""


class EntityDictionary(Floor):
    """Longest matches of train's entities, those that have one label there.

    The baseline of the CoNLL-2003 shared task (Tjong Kim Sang and De Meulder, 2003).
    """

    name: ClassVar[str] = "dictionary"

    def predict(self, data: FloorData) -> FloorPredictions:
        entries = self._entries(data)
        longest = max(map(len, entries), default=0)

        def predicted(rows: Rows) -> list[list[Span]]:
            return [_matches(found, entries, longest) for found in self._words(rows)]

        return FloorPredictions(predicted(data.validation), predicted(data.test))

    def _words(self, rows: Rows) -> list[WordSpans]:
        return word_spans_of_rows(rows, self.task.plan.columns)

    def _entries(self, data: FloorData) -> dict[Words, str]:
        """The words of each entity, and its label."""
        labels: dict[Words, set[str]] = defaultdict(set)
        for found, spans in zip(self._words(data.train), data.train_answers, strict=True):
            texts, (tags, _) = words_of(found), spans_to_tags(found.units, spans)
            for start, end, label in tags_to_spans(tags):
                labels[tuple(texts[int(start) : int(end)])].add(str(label))
        return {words: next(iter(kinds)) for words, kinds in labels.items() if len(kinds) == 1}


class EntityFields(Floor):
    """A linear-chain conditional random field (Lafferty, McCallum and Pereira, 2001) over words, affixes and shapes."""

    name: ClassVar[str] = "crf"

    def predict(self, data: FloorData) -> FloorPredictions:
        from sklearn_crfsuite import CRF

        columns = self.task.plan.columns
        train = word_spans_of_rows(data.train, columns)
        tags = [spans_to_tags(found.units, spans)[0] for found, spans in zip(train, data.train_answers, strict=True)]
        model = CRF(algorithm="lbfgs", c1=PENALTY, c2=PENALTY, max_iterations=ITERATIONS, all_possible_transitions=True)
        # One text at a time: the features of all take far more memory than the texts.
        model.fit((word_features(words_of(found)) for found in train), tags)

        def predicted(rows: Rows) -> list[list[Span]]:
            words = word_spans_of_rows(rows, columns)
            given = model.predict(word_features(words_of(found)) for found in words)
            return [spans_of(found, list(tags)) for found, tags in zip(words, given, strict=True)]

        return FloorPredictions(predicted(data.validation), predicted(data.test))


def words_of(found: WordSpans) -> list[str]:
    """The words of one text."""
    return [found.text[start:end] for start, end in found.words]


def spans_of(found: WordSpans, tags: Sequence[str]) -> list[Span]:
    """Entities in the unit of the task's spans, from one tag a word."""
    return [[found.units[int(s)][0], found.units[int(e) - 1][1], label] for s, e, label in tags_to_spans(tags)]


def word_shape(word: str) -> str:
    """Letters as x and X, digits as 0, runs of more than two cut to two.

    >>> word_shape("iPhone12"), word_shape("B-52"), word_shape("Ärzte")
    ('xXxx00', 'X-00', 'Xxx')
    """
    shape = "".join("X" if c.isupper() else "x" if c.isalpha() else "0" if c.isdigit() else c for c in word)
    return re.sub(r"(.)\1{2,}", r"\1\1", shape)


def word_features(words: Sequence[str]) -> list[list[str]]:
    """The features of each word: itself, its shape and affixes, its neighbours and their shapes.

    >>> [name for name in word_features(["In", "Rome"])[1] if name.startswith(("w", "s"))]
    ['w=rome', 's=Xxx', 'w-1=in', 's-1=Xx', 'w-1w=in rome', 'ww+1=rome $']
    """
    lower, shapes = [word.lower() for word in words], [word_shape(word) for word in words]
    found: list[list[str]] = []
    for place, word in enumerate(lower):
        features = [f"w={word}", f"s={shapes[place]}"]
        features += [f"p{n}={word[:n]}" for n in AFFIXES] + [f"e{n}={word[-n:]}" for n in AFFIXES]
        for step in NEIGHBOURS:
            other = place + step
            if 0 <= other < len(words):
                features += [f"w{step:+d}={lower[other]}", f"s{step:+d}={shapes[other]}"]
            else:
                features.append(f"edge{step:+d}")
        before, after = lower[place - 1] if place else "^", lower[place + 1] if place + 1 < len(words) else "$"
        found.append([*features, f"w-1w={before} {word}", f"ww+1={word} {after}"])
    return found


def _matches(found: WordSpans, entries: dict[Any, str], longest: int) -> list[Span]:
    """Entities of a text by the longest match from left to right."""
    words, place = words_of(found), 0
    spans: list[Span] = []
    while place < len(words):
        for length in range(min(longest, len(words) - place), 0, -1):
            label = entries.get(tuple(words[place : place + length]))
            if label is not None:
                spans.append([found.units[place][0], found.units[place + length - 1][1], label])
                place += length - 1
                break
        place += 1
    return spans
