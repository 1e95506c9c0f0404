"""The regularization path: a probe at many strengths from one warm-started fit, of which validation picks one.

Friedman, Hastie and Tibshirani, Regularization Paths for Generalized Linear Models via Coordinate Descent, 2010, fit
from the strongest to the weakest in the same way.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from finesearch.training.probing.linear_solver import LinearSolver, ProbeProblem, mean_loss
from finesearch.training.probing.output_layer import LinearHead

STRENGTHS = tuple(float(10.0**power) for power in np.arange(1.0, -5.5, -0.5))
"""From the strongest to the weakest, two a decade."""

PATIENCE = 2
"""Strengths without a lower loss on validation after which the path ends: the loss falls and then rises along it."""


@dataclass(frozen=True, eq=False)
class SolvedProbe:
    """A solved output layer, the strength of its regularization, its mean loss on validation, and the solver's
    warnings."""

    head: LinearHead
    regularization: float
    loss: float
    problems: tuple[str, ...] = ()


def solve_at(problem: ProbeProblem, regularization: float, features: np.ndarray, labels: np.ndarray) -> SolvedProbe:
    """Solve at one strength; features (n, d) and labels are those of validation."""
    solver = LinearSolver(problem)
    head = solver.solve(regularization)
    return SolvedProbe(head, regularization, mean_loss(problem, head, features, labels), tuple(solver.problems))


def solve_path(problem: ProbeProblem, features: np.ndarray, labels: np.ndarray) -> SolvedProbe:
    """The probe with the lowest mean loss on validation among ``STRENGTHS``; features and labels are validation's.

    The loss and not the metric: with some hundred rows many strengths have the same accuracy by chance.
    """
    solver, best, since = LinearSolver(problem), None, 0
    for regularization in STRENGTHS:
        head = solver.solve(regularization)
        loss, since = mean_loss(problem, head, features, labels), since + 1
        if best is None or loss < best.loss:
            best, since = SolvedProbe(head, regularization, loss, tuple(solver.problems)), 0
        if since == PATIENCE:
            break
    assert best is not None
    return best
