"""TF-IDF features of texts: words and pairs of words, and characters within words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

LARGEST_VOCABULARY = 1 << 19
"""The most frequent features that are kept of each of the two kinds; a cap on memory."""


class TextFeatures:
    """TF-IDF of words (1 to 2) and of characters within words (2 to 5), with logarithmic term frequency, side by side.

    Bags of n-grams with a linear classifier are hard to beat on short texts (Wang and Manning, Baselines and Bigrams,
    2012). Characters stand for word parts, and for words in scripts without spaces.
    """

    def __init__(self) -> None:
        from sklearn.feature_extraction.text import TfidfVectorizer

        # Words of any script, and one-letter words as well.
        word = r"(?u)\w+"
        self._vectorizers = [
            TfidfVectorizer(token_pattern=word, ngram_range=(1, 2), sublinear_tf=True, max_features=LARGEST_VOCABULARY),
            TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 5), sublinear_tf=True, max_features=LARGEST_VOCABULARY),
        ]

    def fit_transform(self, texts: Sequence[str]) -> csr_matrix:
        """Learn the vocabulary; the features of the same texts.

        Raises:
            ValueError: no text has a word.
        """
        return self._joined([vectorizer.fit_transform(texts) for vectorizer in self._vectorizers])

    def transform(self, texts: Sequence[str]) -> csr_matrix:
        """Sparse features (n, words + characters); each of the two parts of a row has length 1."""
        return self._joined([vectorizer.transform(texts) for vectorizer in self._vectorizers])

    @staticmethod
    def _joined(parts: Sequence[Any]) -> csr_matrix:
        from scipy.sparse import hstack

        return hstack(parts).tocsr()


class PairFeatures:
    """Features of one text a row, or of two: those of each, and the cosine of the two by words and by characters."""

    def __init__(self, columns: int) -> None:
        self._parts = [TextFeatures() for _ in range(columns)]

    def fit_transform(self, columns: Sequence[Sequence[str]]) -> Any:
        """Learn the vocabularies; the features (n, d) of the same texts."""
        own = [part.fit_transform(texts) for part, texts in zip(self._parts, columns, strict=True)]
        return self._with_cosine(own, columns)

    def transform(self, columns: Sequence[Sequence[str]]) -> Any:
        """Sparse features (n, d)."""
        own = [part.transform(texts) for part, texts in zip(self._parts, columns, strict=True)]
        return self._with_cosine(own, columns)

    def _with_cosine(self, own: list[Any], columns: Sequence[Sequence[str]]) -> Any:
        from scipy.sparse import csr_matrix, hstack

        if len(own) == 1:
            return own[0]
        # In the vocabulary of the first, since vectors of two vocabularies have no product.
        alike = own[0].multiply(self._parts[0].transform(columns[1])).sum(axis=1)
        return hstack([*own, csr_matrix(alike)]).tocsr()
