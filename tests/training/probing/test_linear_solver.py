"""Solved output layers against scikit-learn's own predictions on the same features."""

from typing import Any

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.multiclass import OneVsRestClassifier

from finesearch.training.probing.linear_solver import LinearSolver, ProbeProblem, Scaling, mean_loss
from finesearch.training.probing.output_layer import LinearHead
from finesearch.training.probing.strength_path import STRENGTHS, solve_at, solve_path

STRENGTH = 0.03


def features_of(count: int, seed: int = 0, classes: int = 4) -> tuple[np.ndarray, np.ndarray]:
    """Noisy features with an offset and a scale, as those of a model have, and classes that follow from them."""
    draw = np.random.default_rng(seed)
    labels = draw.integers(0, classes, count)
    centres = np.random.default_rng(99).normal(size=(classes, 12))
    return (3.0 + 0.2 * (centres[labels] + draw.normal(size=(count, 12)))).astype(np.float32), labels


def logits_of(head: LinearHead, features: np.ndarray) -> np.ndarray:
    logits: np.ndarray = features.astype(np.float64) @ head.weight.T + (0.0 if head.bias is None else head.bias)
    return logits


def softmax(logits: np.ndarray) -> np.ndarray:
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    found: np.ndarray = shifted / shifted.sum(axis=1, keepdims=True)
    return found


def regression(count: int, **settings: Any) -> LogisticRegression:
    return LogisticRegression(C=1 / (count * STRENGTH), max_iter=1000, tol=1e-6, **settings)


@pytest.mark.parametrize("is_balanced", [False, True])
@pytest.mark.parametrize("classes", [2, 4])
def test_a_multinomial_head_gives_scikit_learns_probabilities(classes: int, is_balanced: bool) -> None:
    train, labels = features_of(200, classes=classes)
    labels[labels == 1] = np.where(np.arange((labels == 1).sum()) % 3 == 0, 1, 0)
    weights = [len(labels) / (classes * (labels == c).sum()) for c in range(classes)] if is_balanced else None
    head = LinearSolver(ProbeProblem("multinomial", train, labels, classes, class_weights=weights)).solve(STRENGTH)
    scaled = Scaling.of(train, is_centred=True)
    known = regression(200, class_weight="balanced" if is_balanced else None).fit(scaled.apply(train), labels)
    others, _ = features_of(100, seed=1, classes=classes)
    expected = known.predict_proba(scaled.apply(others))
    assert softmax(logits_of(head, others)) == pytest.approx(expected, abs=5e-3)
    assert (logits_of(head, others).argmax(axis=1) == known.predict(scaled.apply(others))).mean() > 0.98


def test_a_head_of_several_labels_is_scikit_learns_one_vs_rest() -> None:
    train, classes = features_of(200)
    labels = np.stack([classes == 0, classes >= 2, classes == 9], axis=1).astype(np.float32)
    head = LinearSolver(ProbeProblem("one_vs_rest", train, labels, 3)).solve(STRENGTH)
    scaled = Scaling.of(train, is_centred=True).apply(train)
    known = OneVsRestClassifier(regression(200)).fit(scaled, labels[:, :2])
    logits = logits_of(head, train)
    assert 1 / (1 + np.exp(-logits[:, :2])) == pytest.approx(known.predict_proba(scaled), abs=5e-3)
    assert (logits[:, 2] < 0).all(), "a label that no row has is never given"


def test_a_head_of_numbers_is_scikit_learns_ridge_regression() -> None:
    train, classes = features_of(200)
    numbers = 2.5 * classes - 4.0
    head = LinearSolver(ProbeProblem("ridge", train, numbers, 1)).solve(STRENGTH)
    scaled = Scaling.of(train, is_centred=True).apply(train)
    known = Ridge(alpha=200 * STRENGTH).fit(scaled, numbers)
    assert logits_of(head, train)[:, 0] == pytest.approx(known.predict(scaled), abs=1e-3)


def test_a_layer_without_a_bias_gets_none() -> None:
    train, labels = features_of(200)
    head = LinearSolver(ProbeProblem("multinomial", train, labels, 4, has_bias=False)).solve(1e-4)
    assert head.bias is None
    assert (logits_of(head, train).argmax(axis=1) == labels).mean() > 0.8


def test_a_class_without_a_row_is_never_predicted() -> None:
    train, labels = features_of(200)
    solved = LinearSolver(ProbeProblem("multinomial", train, labels + 1, 6)).solve(1e-5)
    assert set(logits_of(solved, features_of(500, seed=3)[0]).argmax(axis=1)) == {1, 2, 3, 4}


def test_the_path_finds_the_strength_with_the_lowest_loss_on_validation() -> None:
    (train, labels), (others, known) = features_of(60), features_of(200, seed=1)
    problem = ProbeProblem("multinomial", train, labels, 4)
    alone = {strength: solve_at(problem, strength, others, known) for strength in STRENGTHS}
    best = min(alone.values(), key=lambda solved: solved.loss)
    found = solve_path(problem, others, known)
    assert STRENGTHS[0] > found.regularization == best.regularization > STRENGTHS[-1]
    # Each fit of the path starts from the one before, and ends where one from nothing does.
    assert found.loss == pytest.approx(best.loss, rel=1e-3)
    assert logits_of(found.head, others) == pytest.approx(logits_of(best.head, others), abs=0.05)


def test_the_loss_on_validation_is_that_of_training() -> None:
    import torch
    from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

    (train, labels), (others, known) = features_of(60), features_of(50, seed=1)
    weights = [1.0, 2.0, 0.5, 3.0]
    problem = ProbeProblem("multinomial", train, labels, 4, class_weights=weights)
    head = LinearSolver(problem).solve(STRENGTH)
    logits = torch.from_numpy(logits_of(head, others))
    expected = cross_entropy(logits, torch.from_numpy(known), torch.tensor(weights, dtype=torch.float64))
    assert mean_loss(problem, head, others, known) == pytest.approx(float(expected), rel=1e-5)
    several = np.eye(4, dtype=np.float32)[known]
    problem = ProbeProblem("one_vs_rest", train, np.eye(4)[labels], 4, class_weights=weights)
    expected = binary_cross_entropy_with_logits(
        logits, torch.from_numpy(several).double(), pos_weight=torch.tensor(weights)
    )
    assert mean_loss(problem, head, others, several) == pytest.approx(float(expected), rel=1e-5)


def test_a_solver_that_does_not_converge_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("finesearch.training.probing.linear_solver.MOST_ITERATIONS", 1)
    train, labels = features_of(60)
    solver = LinearSolver(ProbeProblem("multinomial", train, labels, 4))
    solver.solve(1e-4)
    assert solver.problems == ["the probe did not converge in 1 iterations at regularization 0.0001."]
