"""Best sentence: the sentence of the context that shares most with the question."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from finesearch.floors.floor import Floor, FloorData, FloorPredictions, Rows
from finesearch.tasks.encoding.scripts import WORD_PATTERN
from finesearch.tasks.prompting.candidate_spans import sentence_spans


class BestSentence(Floor):
    """The sentence that is most similar to the question by TF-IDF of words, as a whole; the first of equals.

    After the sliding-window baseline of SQuAD (Rajpurkar et al., 2016), without its parser. Where some questions have
    no answer, the task chooses on validation the similarity below which none is given.
    """

    name: ClassVar[str] = "best_sentence"

    def predict(self, data: FloorData) -> FloorPredictions:
        from sklearn.feature_extraction.text import TfidfVectorizer

        columns = self.task.plan.columns
        contexts = list(dict.fromkeys(data.train[columns["context"]]))
        vectorizer = TfidfVectorizer(token_pattern=WORD_PATTERN, sublinear_tf=True)
        vectorizer.fit([*contexts, *data.train[columns["question"]]])
        return FloorPredictions(self._answers(data.validation, vectorizer), self._answers(data.test, vectorizer))

    def _answers(self, rows: Rows, vectorizer: Any) -> list[dict[str, Any]]:
        columns = self.task.plan.columns
        questions = vectorizer.transform(list(rows[columns["question"]]))
        known: dict[str, tuple[list[str], Any]] = {}
        found = []
        for row, context in enumerate(rows[columns["context"]]):
            if context not in known:
                sentences = [context[start:end] for start, end in sentence_spans(context)]
                known[context] = (sentences, vectorizer.transform(sentences))
            sentences, vectors = known[context]
            alike: Sequence[float] = (vectors @ questions[row].T).toarray().ravel().tolist()
            best = max(range(len(sentences)), key=lambda place: (alike[place], -place))
            found.append({"text": sentences[best], "null_margin": -alike[best], "n_best": []})
        return found
