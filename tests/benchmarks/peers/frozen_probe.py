"""Logistic regression on what the frozen model says of a row."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from peers.contest import Contest
from peers.encoded_rows import IGNORED, Problem
from peers.encoder_head import EncoderHead, features_of, logits_of
from peers.scores import score

INVERSE_PENALTIES = (0.1, 0.3, 1.0, 3.0, 10.0)
MOST_ITERATIONS = 300


@dataclass(frozen=True)
class Probe:
    """A head that was solved. weight: (C, D), bias: (C,), validation: its score there."""

    weight: NDArray[np.float64]
    bias: NDArray[np.float64]
    validation: float

    def into(self, model: EncoderHead) -> None:
        """Make it the model's head."""
        with torch.no_grad():
            model.head.weight.copy_(torch.from_numpy(self.weight))
            model.head.bias.copy_(torch.from_numpy(self.bias))


def frozen_probe(contest: Contest) -> tuple[list[Any], float]:
    """Answers on test of the probe that is best on validation, and its score there."""
    problem = Problem(contest)
    model = EncoderHead(problem)
    probe = solved(model, problem)
    probe.into(model)
    return problem.answers("test", logits_of(model, problem, "test")), probe.validation


def solved(model: EncoderHead, problem: Problem) -> Probe:
    """A probe on the model's outputs, with the penalty that is best on validation."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    outputs = torch.cat([one.reshape(-1, one.shape[-1]) for one in features_of(model, problem, "train")]).numpy()
    targets = np.array([target for row in problem.encoded["train"] for target in row.targets])
    known = targets != IGNORED
    validated = features_of(model, problem, "validation")
    best: Probe | None = None
    for penalty in INVERSE_PENALTIES:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            fitted = LogisticRegression(C=penalty, max_iter=MOST_ITERATIONS).fit(outputs[known], targets[known])
        weight, bias = fitted.coef_, fitted.intercept_
        if len(weight) == 1:
            # Two classes have one row of weights; as two of them they give the same probabilities.
            weight, bias = np.vstack([-weight / 2, weight / 2]), np.concatenate([-bias / 2, bias / 2])
        slopes, offset = torch.from_numpy(weight.T.astype("f4")), torch.from_numpy(bias.astype("f4"))
        logits = [one @ slopes + offset for one in validated]
        value = score(problem.contest, problem.answers("validation", logits), "validation").value
        if best is None or value > best.validation:
            best = Probe(weight, bias, value)
    assert best is not None
    return best
