"""Best sentence: the sentence of the context that shares most with the question."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from finesearch.floors.floor import Floor, FloorData, FloorPredictions, Rows
from finesearch.floors.text_features import words_of_text
from finesearch.tasks.prompting.candidate_spans import sentence_spans

ROWS_AT_ONCE = 1024
"""Questions that are transformed together, and answered from contexts that are kept until then."""


class BestSentence(Floor):
    """The sentence that is most similar to the question by TF-IDF of words, as a whole; the first of equals.

    After the sliding-window baseline of SQuAD (Rajpurkar et al., 2016), without its parser. Where some questions have
    no answer, the task chooses on validation the similarity below which none is given.
    """

    name: ClassVar[str] = "best_sentence"

    def predict(self, data: FloorData) -> FloorPredictions:
        from sklearn.feature_extraction.text import TfidfVectorizer

        columns = self.task.plan.columns
        texts = [*dict.fromkeys(data.train[columns["context"]]), *data.train[columns["question"]]]
        vectorizer = TfidfVectorizer(analyzer=words_of_text, sublinear_tf=True)
        if not any(map(words_of_text, texts)):
            # Nothing is alike without words: the first sentence of each context.
            vectorizer.set_params(vocabulary=[""])
        vectorizer.fit(texts)
        return FloorPredictions(self._answers(data.validation, vectorizer), self._answers(data.test, vectorizer))

    def _answers(self, rows: Rows, vectorizer: Any) -> list[dict[str, Any]]:
        questions, contexts = (list(rows[self.task.plan.columns[role]]) for role in ("question", "context"))
        found: list[dict[str, Any]] = []
        for start in range(0, len(questions), ROWS_AT_ONCE):
            some = slice(start, start + ROWS_AT_ONCE)
            found += self._some_answers(questions[some], contexts[some], vectorizer)
        return found

    @staticmethod
    def _some_answers(asked: Sequence[str], contexts: Sequence[str], vectorizer: Any) -> list[dict[str, Any]]:
        questions = vectorizer.transform(asked)
        known: dict[str, tuple[list[str], Any]] = {}
        found = []
        for row, context in enumerate(contexts):
            if context not in known:
                sentences = [context[start:end] for start, end in sentence_spans(context)]
                known[context] = (sentences, vectorizer.transform(sentences))
            sentences, vectors = known[context]
            alike: Sequence[float] = (vectors @ questions[row].T).toarray().ravel().tolist()
            best = max(range(len(sentences)), key=lambda place: (alike[place], -place))
            found.append({"text": sentences[best], "null_margin": -alike[best], "n_best": []})
        return found
