"""Words of texts in any script, and TF-IDF features: words and pairs of words, and characters within words."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from finesearch.tasks.encoding.scripts import UNSPACED

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

LARGEST_VOCABULARY = 1 << 19
"""The most frequent features that are kept of each of the two kinds; a cap on memory."""
_UNSPACED = "".join(UNSPACED.values())
_WORDS = re.compile(rf"([{_UNSPACED}]+)|(?:(?![{_UNSPACED}])\w)+")


def words_of_text(text: str) -> list[str]:
    """The words in lower case; pairs of neighbouring characters where the script has no spaces between words.

    In search such pairs do about as well as words (Nie, Gao, Zhang and Zhou, On the Use of Words and N-grams for
    Chinese Information Retrieval, 2000).

    >>> words_of_text("I saw it in 東京タワー.")
    ['i', 'saw', 'it', 'in', '東京', '京タ', 'タワ', 'ワー']
    """
    found: list[str] = []
    for match in _WORDS.finditer(text.lower()):
        run = match.group()
        is_one = match.group(1) is None or len(run) == 1
        found += [run] if is_one else [run[place : place + 2] for place in range(len(run) - 1)]
    return found


class TextFeatures:
    """TF-IDF of words (1 to 2) and of characters within words (2 to 5), with logarithmic term frequency, side by side.

    Bags of n-grams with a linear classifier are hard to beat on short texts (Wang and Manning, Baselines and Bigrams,
    2012). Characters stand for word parts, and for words in scripts without spaces.

    A kind of which the texts that are learned from have nothing is left out: texts without a word, or without any
    character. kinds: what is left then, ``characters`` or ``none``; "" where there are both.
    """

    def __init__(self) -> None:
        from sklearn.feature_extraction.text import TfidfVectorizer

        # Words of any script, and one-letter words as well.
        word = r"(?u)\w+"
        self._vectorizers = [
            TfidfVectorizer(token_pattern=word, ngram_range=(1, 2), sublinear_tf=True, max_features=LARGEST_VOCABULARY),
            TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 5), sublinear_tf=True, max_features=LARGEST_VOCABULARY),
        ]
        self.kinds = ""

    def fit_transform(self, texts: Sequence[str]) -> csr_matrix:
        """Learn the vocabulary; the features of the same texts."""
        # A text with a word has characters.
        if not any(re.search(r"\w", text) for text in texts):
            has_characters = any(text.strip() for text in texts)
            self._vectorizers = self._vectorizers[1:] if has_characters else []
            self.kinds = "characters" if has_characters else "none"
        return self._joined([vectorizer.fit_transform(texts) for vectorizer in self._vectorizers], len(texts))

    def transform(self, texts: Sequence[str]) -> csr_matrix:
        """Sparse features (n, words + characters); each of the two parts of a row has length 1. Without either kind
        there is one that is 0."""
        return self._joined([vectorizer.transform(texts) for vectorizer in self._vectorizers], len(texts))

    @staticmethod
    def _joined(parts: Sequence[Any], rows: int) -> csr_matrix:
        from scipy.sparse import csr_matrix, hstack

        return hstack(parts).tocsr() if parts else csr_matrix((rows, 1))


class PairFeatures:
    """Features of one text a row, or of two: those of each, and the cosine of the two by words and by characters."""

    def __init__(self, columns: int) -> None:
        self._parts = [TextFeatures() for _ in range(columns)]

    @property
    def kinds(self) -> str:
        """What is left of the two kinds in each column: ``characters``, say, or ``both and none``; "" where all is."""
        left = [part.kinds or "both" for part in self._parts]
        return " and ".join(left) if set(left) != {"both"} else ""

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
