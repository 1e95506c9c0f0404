"""Importances say what makes trials good, not what makes them bad."""

from __future__ import annotations

import warnings

import optuna
import pytest

from finesearch.tuning.study.journal import Direction, Journal, Outcome
from finesearch.tuning.study.parameter_importance import parameter_importances


@pytest.mark.parametrize("maximize", [True, False])
def test_the_parameter_that_makes_the_best_trials_is_the_most_important(maximize: bool) -> None:
    journal = Journal(optuna.storages.InMemoryStorage(), "importance", [Direction("metric", maximize)])
    for number in range(200):
        trial = journal.ask(
            lambda trial: {name: trial.suggest_float(name, 0, 1) for name in ("helps", "breaks")},
            optuna.samplers.RandomSampler(seed=number),
        )
        # What breaks decides which trials are worst; among all others it does not matter.
        quality = 0.0 if trial.parameters["breaks"] < 0.15 else 1 - abs(trial.parameters["helps"] - 0.5)
        journal.finish(trial.number, Outcome("complete", None, (quality if maximize else -quality,)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = parameter_importances(journal)
    assert list(found) == ["helps", "breaks"]
    assert found["helps"] > 0.8
