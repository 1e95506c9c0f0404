"""Floors that answer with a text that is there: the source, the nearest row's answer, the first sentences."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from typing import Any, ClassVar

from finesearch.floors.floor import Floor, FloorData, FloorPredictions, Rows
from finesearch.floors.text_features import TextFeatures, words_of_text
from finesearch.tasks.generation.dialogue import Dialogue
from finesearch.tasks.generation.dialogue_rows import conversation, is_learned, reply_text
from finesearch.tasks.generation.summarization import Summarization
from finesearch.tasks.generation.text_to_text import TextToText
from finesearch.tasks.prompting.candidate_spans import sentence_spans

AT_ONCE = 256
"""Rows compared with all of train at a time."""
MOST_SENTENCES = 10


class CopiedSource(Floor):
    """The source itself: what names, numbers and loan words are worth."""

    name: ClassVar[str] = "copy"

    def predict(self, data: FloorData) -> FloorPredictions:
        column = _source(self)
        return FloorPredictions(list(data.validation[column]), list(data.test[column]))


class NearestTranslation(Floor):
    """The translation of the most similar source of train by TF-IDF, as a translation memory gives it."""

    name: ClassVar[str] = "nearest"

    def predict(self, data: FloorData) -> FloorPredictions:
        column = _source(self)
        features = TextFeatures()
        known = features.fit_transform(list(data.train[column])).T.tocsr()

        def nearest(rows: Rows) -> list[str]:
            found: list[str] = []
            for start in range(0, len(rows[column]), AT_ONCE):
                alike = features.transform(list(rows[column][start : start + AT_ONCE])) @ known
                # The first of equals, as `argmax` of a dense row.
                found += [data.train_answers[int(place)] for place in alike.toarray().argmax(axis=1)]
            return found

        return FloorPredictions(nearest(data.validation), nearest(data.test))


class LeadSentences(Floor):
    """The first n sentences (lead-n, as in See, Liu and Manning, 2017); n is chosen on validation."""

    name: ClassVar[str] = "lead"

    def predict(self, data: FloorData) -> FloorPredictions:
        assert isinstance(self.task, Summarization)
        column = self.task.source_column
        candidates = (
            (n, [first_sentences(text, n) for text in data.validation[column]]) for n in range(1, MOST_SENTENCES + 1)
        )
        n, predicted = self.best_setting(candidates, data.validation_answers)
        return FloorPredictions(predicted, [first_sentences(text, n) for text in data.test[column]], {"sentences": n})


class NearestReply(Floor):
    """The reply that followed the most similar turn in train, by BM25 (Robertson and Zaragoza, 2009).

    Every reply of the assistant in train can be given, found by the turn before it; the turn before the last reply
    asks. As the retrieval baseline of Lowe et al., The Ubuntu Dialogue Corpus, 2015, which has TF-IDF.
    """

    name: ClassVar[str] = "bm25"

    def predict(self, data: FloorData) -> FloorPredictions:
        from bm25s import BM25

        logging.getLogger("bm25s").setLevel(logging.WARNING)
        assert isinstance(self.task, Dialogue)
        column = self.task.messages_column
        turns, replies = [], []
        for messages in data.train[column]:
            talk = conversation(messages, None)
            for before, turn in zip(talk, talk[1:], strict=False):
                if is_learned(turn):
                    turns.append(before["content"])
                    replies.append(reply_text(turn))
        index, known = BM25(), [words_of_text(turn) for turn in turns]
        has_words = any(known)
        if has_words:
            index.index(known, show_progress=False)

        def nearest(rows: Rows) -> list[dict[str, Any]]:
            found = []
            for messages in rows[column]:
                before = conversation(messages, None)[:-1]
                words = words_of_text(before[-1]["content"]) if before and has_words else []
                found.append(_reply(replies[_best(index, words)] if replies else ""))
            return found

        return FloorPredictions(nearest(data.validation), nearest(data.test))


def first_sentences(text: str, number: int) -> str:
    """The first sentences of a text, with a space between two.

    >>> first_sentences("It rose 3.5 m. Then it fell! Why", 2)
    'It rose 3.5 m. Then it fell!'
    """
    return " ".join(text[start:end] for start, end in sentence_spans(text)[:number])


def _source(floor: Floor) -> str:
    assert isinstance(floor.task, TextToText)
    return floor.task.source_column


def _best(index: Any, words: Sequence[str]) -> int:
    """The place of the best match; the first where no word is known."""
    known = [word for word in words if word in index.vocab_dict] if words else []
    return int(index.get_scores(known).argmax()) if known else 0


def _reply(text: str) -> dict[str, Any]:
    """A prediction of the dialogue task; a reply that was found has no perplexity."""
    return {"text": text, "nll": math.nan, "tokens": 1}
