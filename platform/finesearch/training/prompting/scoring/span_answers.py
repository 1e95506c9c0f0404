"""Extractive answers by an encoder: words of the context's sentence whose embedding is nearest to the question's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from finesearch.tasks.prompting.candidate_spans import candidate_spans, sentence_spans
from finesearch.tasks.prompting.question import Question
from finesearch.training.prompting.scoring.similarity import SimilarityScorer

if TYPE_CHECKING:
    from numpy.typing import NDArray


def find_answers(scorer: SimilarityScorer, questions: Sequence[Question]) -> list[str]:
    """The words nearest to each question, without the question's own words, in the sentence nearest to it."""
    asked = scorer.embedded([each.fields["question"] for each in questions], [None] * len(questions))
    best = _nearest_sentences(scorer, questions, asked)
    spans = [candidate_spans(text, each.fields["question"]) for text, each in zip(best, questions, strict=True)]
    texts = [text for text, found in zip(best, spans, strict=True) for _ in found]
    flat = [span for found in spans for span in found]
    known = scorer.embedded(texts, flat) if flat else np.zeros((0, asked.shape[1]), dtype=np.float32)
    answers, start = [], 0
    for text, found, each in zip(best, spans, asked, strict=True):
        part = known[start : start + len(found)] @ each
        start += len(found)
        answers.append(text[slice(*found[int(part.argmax())])] if found else text)
    return answers


def _nearest_sentences(
    scorer: SimilarityScorer, questions: Sequence[Question], asked: NDArray[np.float32]
) -> list[str]:
    contexts = [each.fields["context"] for each in questions]
    parts = [[context[start:end] for start, end in sentence_spans(context)] or [context] for context in contexts]
    flat = [sentence for part in parts for sentence in part]
    known = scorer.embedded(flat, [None] * len(flat))
    found, start = [], 0
    for part, each in zip(parts, asked, strict=True):
        found.append(part[int((known[start : start + len(part)] @ each).argmax())])
        start += len(part)
    return found
