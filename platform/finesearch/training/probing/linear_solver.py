"""Output layers solved by scikit-learn: multinomial and one-vs-rest logistic regression, ridge regression.

``regularization`` is the weight of the squared norm of the weights beside the mean loss of a unit, whatever the number
of units: ``1 / (n C)`` of scikit-learn's C, and ``alpha / n`` of its ridge regression. The bias is not penalised.

Features are centred and divided by one number, the root of their mean variance, so that a strength means the same for
every layer and every model; the solved weights are for the features as they come. Dividing each feature by its own
deviation was no better: see docs/decisions/training.md.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from finesearch.training.probing.output_layer import LinearHead

if TYPE_CHECKING:
    from finesearch.training.probing.probe_units import Method

SOLVER = "lbfgs-ridge-1"
"""In the names of kept solutions: the solvers, and a number that grows when the same problem is solved otherwise."""
MOST_ITERATIONS = 1000
NEVER = -10.0
"""Logit of a class without any unit, beside a mean of 0 over the others: it is never the largest."""


@dataclass(frozen=True, eq=False)
class ProbeProblem:
    """features: (n, d). labels: (n,), or (n, C) of 0 and 1 for ``one_vs_rest``. outputs: C. class_weights: (C,)."""

    method: Method
    features: np.ndarray
    labels: np.ndarray
    outputs: int
    has_bias: bool = True
    class_weights: Sequence[float] | None = None


@dataclass(frozen=True, eq=False)
class Scaling:
    """Features minus ``mean`` (d,), divided by ``scale``."""

    mean: np.ndarray
    scale: float

    @classmethod
    def of(cls, features: np.ndarray, is_centred: bool) -> Scaling:
        mean = features.mean(axis=0, dtype=np.float64)
        scale = float(np.sqrt(features.var(axis=0, dtype=np.float64).mean())) or 1.0
        return cls(mean if is_centred else np.zeros_like(mean), scale)

    def apply(self, features: np.ndarray) -> np.ndarray:
        scaled: np.ndarray = (features.astype(np.float64) - self.mean) / self.scale
        return scaled

    def fold(self, weight: np.ndarray, bias: np.ndarray, has_bias: bool) -> LinearHead:
        """The layer for unscaled features that computes what ``weight`` and ``bias`` compute from scaled ones."""
        weight = weight / self.scale
        folded = (bias - weight @ self.mean).astype(np.float32) if has_bias else None
        return LinearHead(weight.astype(np.float32), folded)


@dataclass(eq=False)
class LinearSolver:
    """Solves one problem at several strengths; each fit starts from the one before. problems: warnings about the last.

    The strength that is solved alone gives the same layer as on a path, up to the solver's tolerance.
    """

    problem: ProbeProblem
    problems: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        problem = self.problem
        self._scaling = Scaling.of(problem.features, is_centred=problem.has_bias)
        self._scaled = self._scaling.apply(problem.features)
        self._models: list[Any] = []

    def solve(self, regularization: float) -> LinearHead:
        """The output layer in float32 at one strength."""
        solve = {"multinomial": self._multinomial, "one_vs_rest": self._one_vs_rest, "ridge": self._ridge}
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            weight, bias = solve[self.problem.method](regularization)
        told = f"the probe did not converge in {MOST_ITERATIONS} iterations at regularization {regularization:.2g}."
        self.problems = [told] if any("converge" in str(each.message) for each in caught) else []
        return self._scaling.fold(weight, bias, self.problem.has_bias)

    def _multinomial(self, regularization: float) -> tuple[np.ndarray, np.ndarray]:
        problem = self.problem
        weight, bias = np.zeros((problem.outputs, self._scaled.shape[1])), np.full(problem.outputs, NEVER)
        seen = np.unique(problem.labels)
        if len(seen) < 2:
            bias[seen] = 0.0
            return weight, bias
        weights = None if problem.class_weights is None else {c: problem.class_weights[c] for c in seen.tolist()}
        model = self._model(0, regularization, weights).fit(self._scaled, problem.labels)
        own, start = model.coef_, np.atleast_1d(model.intercept_)
        if len(seen) == 2:  # scikit-learn has one row for two classes
            own, start = np.vstack([-own, own]) / 2, np.array([-start[0], start[0]]) / 2
        # Softmax does not change with a constant over the classes: logits have the mean 0.
        weight[seen], bias[seen] = own - own.mean(axis=0), start - start.mean()
        return weight, bias

    def _one_vs_rest(self, regularization: float) -> tuple[np.ndarray, np.ndarray]:
        problem = self.problem
        weight, bias = np.zeros((problem.outputs, self._scaled.shape[1])), np.zeros(problem.outputs)
        for number in range(problem.outputs):
            labels = problem.labels[:, number].astype(np.int64)
            if labels.min() == labels.max():
                bias[number] = -NEVER if labels[0] else NEVER
                continue
            weights = None if problem.class_weights is None else {0: 1.0, 1: problem.class_weights[number]}
            model = self._model(number, regularization, weights).fit(self._scaled, labels)
            weight[number], bias[number] = model.coef_[0], np.atleast_1d(model.intercept_)[0]
        return weight, bias

    def _ridge(self, regularization: float) -> tuple[np.ndarray, np.ndarray]:
        from sklearn.linear_model import Ridge

        alpha = regularization * len(self._scaled)
        model = Ridge(alpha=alpha, fit_intercept=self.problem.has_bias).fit(self._scaled, self.problem.labels)
        return model.coef_.reshape(1, -1), np.atleast_1d(model.intercept_)

    def _model(self, number: int, regularization: float, class_weight: dict[int, float] | None) -> Any:
        """The ``number``-th logistic regression of the problem, which starts from its last fit."""
        from sklearn.linear_model import LogisticRegression

        while len(self._models) <= number:
            self._models.append(
                LogisticRegression(warm_start=True, max_iter=MOST_ITERATIONS, fit_intercept=self.problem.has_bias)
            )
        model = self._models[number]
        return model.set_params(C=1.0 / (regularization * len(self._scaled)), class_weight=class_weight)


def mean_loss(problem: ProbeProblem, head: LinearHead, features: np.ndarray, labels: np.ndarray) -> float:
    """Mean loss of units that the layer was not solved on, as in training; ``features`` are unscaled."""
    total = weight = 0.0
    for part, own in _chunks(features, labels):
        logits = part.astype(np.float64) @ head.weight.T.astype(np.float64)
        logits += 0.0 if head.bias is None else head.bias
        losses, weights = _losses(problem, logits, own)
        total, weight = total + float(losses @ weights), weight + float(weights.sum())
    return total / weight


def _losses(problem: ProbeProblem, logits: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Loss and weight of each unit, (n,) both."""
    ones = np.ones(len(logits))
    if problem.method == "ridge":
        return np.square(logits[:, 0] - labels), ones
    if problem.method == "one_vs_rest":
        positive = ones[:1] if problem.class_weights is None else np.asarray(problem.class_weights)
        losses = labels * positive * np.logaddexp(0.0, -logits) + (1 - labels) * np.logaddexp(0.0, logits)
        return losses.mean(axis=1), ones
    picked = logits[np.arange(len(logits)), labels]
    weights = ones if problem.class_weights is None else np.asarray(problem.class_weights)[labels]
    return np.logaddexp.reduce(logits, axis=1) - picked, weights


def _chunks(features: np.ndarray, labels: np.ndarray, size: int = 8192) -> Iterable[tuple[np.ndarray, np.ndarray]]:
    starts: Iterator[int] = iter(range(0, len(labels), size))
    return ((features[start : start + size], labels[start : start + size]) for start in starts)
