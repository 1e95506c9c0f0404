"""Bag of words: TF-IDF with a linear model, for classes, several classes, numbers and relations."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from finesearch.floors.floor import Floor, FloorData, FloorPredictions, Rows
from finesearch.floors.text_features import PairFeatures
from finesearch.tasks.classification.relation_extraction import RelationExtraction
from finesearch.tasks.classification.text_classification import TextClassification

INVERSE_REGULARIZATION = (1.0, 10.0, 100.0)
"""Values of C; each fit takes a fraction of the features' time."""
RIDGE_PENALTIES = (0.1, 0.3, 1.0, 3.0, 10.0)
TOLERANCE = 0.1
"""LIBLINEAR's own for its dual solvers; scores change in the third decimal with a smaller one."""

ROWS_AT_ONCE = 4096
"""Rows of validation and test that are transformed and predicted together: all of them may not fit into memory."""

Predict = Callable[[Any], list[Any]]


class BagOfWords(Floor):
    """Words and characters in TF-IDF, a linear model, its regularization chosen on validation.

    The setting ``features`` says where some column of train has no word: ``characters`` alone, or ``none`` where it
    has no character either. Without any feature the model gives the most frequent answer, or the mean.
    """

    name: ClassVar[str] = "tfidf"
    setting: ClassVar[str]

    def predict(self, data: FloorData) -> FloorPredictions:
        texts = self.texts(data.train)
        features = PairFeatures(len(texts))
        train = features.fit_transform(texts)
        fitted = {value: self.fit(value, train, data.train_answers) for value in self.values}
        candidates = self._predicted(features, fitted, data.validation)
        value, predicted = self.best_setting(candidates.items(), data.validation_answers)
        test = self._predicted(features, {value: fitted[value]}, data.test)[value]
        missing = {"features": features.kinds} if features.kinds else {}
        return FloorPredictions(predicted, test, {self.setting: value, **missing})

    def _predicted(self, features: PairFeatures, fitted: Mapping[float, Predict], rows: Rows) -> dict[float, list[Any]]:
        """Predictions of each model for a split, ``ROWS_AT_ONCE`` of it at a time."""
        texts = self.texts(rows)
        found: dict[float, list[Any]] = {value: [] for value in fitted}
        for start in range(0, len(texts[0]), ROWS_AT_ONCE):
            some = features.transform([column[start : start + ROWS_AT_ONCE] for column in texts])
            for value, predict in fitted.items():
                found[value] += predict(some)
        return found

    def texts(self, rows: Rows) -> list[list[str]]:
        """One or two columns of texts."""
        return [list(rows[name]) for name in self.task.identity_columns]

    @property
    @abstractmethod
    def values(self) -> Sequence[float]:
        """The values that are tried, the simplest model first."""

    @abstractmethod
    def fit(self, value: float, features: Any, answers: Sequence[Any]) -> Predict:
        """From features (n, d) of train and their answers to a function from features to predictions."""


class BagOfWordsClassifier(BagOfWords):
    """Logistic regression, one class against the rest.

    Dual coordinate descent (Yu, Huang and Lin, 2011): ten times as fast as L-BFGS here, with the same scores.
    """

    setting: ClassVar[str] = "C"

    @property
    def values(self) -> Sequence[float]:
        return INVERSE_REGULARIZATION

    def fit(self, value: float, features: Any, answers: Sequence[Any]) -> Predict:
        model = one_against_rest(value).fit(features, np.asarray(answers))
        if not (isinstance(self.task, TextClassification) and self.task.gives_probabilities):
            return lambda rows: model.predict(rows).tolist()

        def probabilities(rows: Any) -> list[Any]:
            found = np.zeros((rows.shape[0], len(self.facts.label_names)))
            found[:, model.classes_] = model.predict_proba(rows)
            return list(found.tolist())

        return probabilities


class BagOfWordsRelation(BagOfWordsClassifier):
    """The same over the text with head and tail marked, as the model reads it."""

    def texts(self, rows: Rows) -> list[list[str]]:
        assert isinstance(self.task, RelationExtraction)
        return [self.task.marked_texts(rows)]


class BagOfWordsLabels(BagOfWordsClassifier):
    """Any number of classes a text: a logistic regression each, those above a probability of 0.5."""

    def fit(self, value: float, features: Any, answers: Sequence[Any]) -> Predict:
        targets = np.zeros((len(answers), len(self.facts.label_names)), dtype=int)
        for row, classes in enumerate(answers):
            targets[row, classes] = 1
        # A class that all rows have, or none, has nothing to be fitted.
        constant = targets.min(axis=0) == targets.max(axis=0)
        model = one_against_rest(value).fit(features, targets[:, ~constant]) if not constant.all() else None

        def predict(rows: Any) -> list[Any]:
            found = np.tile(targets[0], (rows.shape[0], 1))
            if model is not None:
                found[:, ~constant] = model.predict(rows).reshape(rows.shape[0], -1)
            return [np.flatnonzero(row).tolist() for row in found]

        return predict


class BagOfWordsRegression(BagOfWords):
    """Ridge regression on the same features."""

    setting: ClassVar[str] = "alpha"

    @property
    def values(self) -> Sequence[float]:
        return RIDGE_PENALTIES[::-1]

    def fit(self, value: float, features: Any, answers: Sequence[Any]) -> Predict:
        from sklearn.linear_model import Ridge

        model = Ridge(alpha=value, solver="sparse_cg", tol=1e-3, random_state=0).fit(features, np.asarray(answers))
        return lambda rows: [float(np.float32(number)) for number in model.predict(rows)]


def one_against_rest(value: float) -> Any:
    """A logistic regression for each class, or one for two classes."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.multiclass import OneVsRestClassifier

    model = LogisticRegression(C=value, solver="liblinear", dual=True, tol=TOLERANCE, random_state=0)
    return OneVsRestClassifier(model)
