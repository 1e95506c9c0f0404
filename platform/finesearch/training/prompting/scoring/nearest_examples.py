"""Retrieval of few-shot examples: those most similar to a question by TF-IDF."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from finesearch.tasks.prompting.question import Question
from finesearch.training.prompting.scoring.prompt_spec import PromptSpec

if TYPE_CHECKING:
    from numpy.typing import NDArray

AT_ONCE = 256


class Nearest:
    """Finds the examples most similar to a question by TF-IDF (Liu et al., What Makes Good In-Context Examples for
    GPT-3?, 2022, use sentence embeddings)."""

    def __init__(self, pool: Sequence[Question], shown: int) -> None:
        from sklearn.feature_extraction.text import TfidfVectorizer

        self._pool, self._shown = pool, shown
        # Words of any script, and one-letter words as well.
        self._vectorizer = TfidfVectorizer(token_pattern=r"(?u)\w+|[^\w\s]", sublinear_tf=True)
        self._known = self._vectorizer.fit_transform([_text(question) for question in pool])

    def __call__(self, questions: Sequence[Question]) -> list[list[Question]]:
        """Examples for each question, the most similar one last, next to the question."""
        found = []
        for start in range(0, len(questions), AT_ONCE):
            vectors = self._vectorizer.transform([_text(question) for question in questions[start : start + AT_ONCE]])
            alike: NDArray[np.float64] = (vectors @ self._known.T).toarray()
            # Stable, so that ties are ordered the same on every platform.
            best = np.argsort(-alike, axis=1, kind="stable")[:, : self._shown]
            found += [[self._pool[int(place)] for place in row[::-1]] for row in best]
        return found


def examples_for(prompt: PromptSpec, questions: Sequence[Question]) -> Sequence[Sequence[Question]]:
    """The examples before each question: the same for all, or those most similar to it."""
    if prompt.similar_shown is None:
        return [prompt.examples] * len(questions)
    return Nearest(prompt.examples, prompt.similar_shown)(questions)


def _text(question: Question) -> str:
    return " ".join(question.fields.values())
