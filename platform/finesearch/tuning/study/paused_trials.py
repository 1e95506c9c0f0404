"""Paused trials of ``sampler: freeze_thaw``: stopped trials that may go on at any time, and which of them can."""

from __future__ import annotations

from collections.abc import Mapping

from finesearch.plan import Plan
from finesearch.tuning.study.journal import Journal
from finesearch.tuning.study.journaled_trial import JournaledTrial, recipe_of

KEPT = 8
"""Trials whose state to go on from is kept: those with the best values so far, whatever became of them."""


def pauses_trials(plan: Plan) -> bool:
    """Whether the sampler pauses trials and goes on with them."""
    return plan.search.sampler == "freeze_thaw"


def numbers_with_state(journal: Journal) -> set[int]:
    """Numbers of the trials whose state is kept while they are paused; see :func:`best_of_all`."""
    sign = 1.0 if journal.directions[0].maximize else -1.0
    best = {
        trial.number: max(sign * each.value for each in trial.evaluations.values())
        for trial in journal.trials()
        if trial.evaluations
    }
    return best_of_all(best)


def best_of_all(values: Mapping[int, float]) -> set[int]:
    """The ``KEPT`` numbers with the best values, larger is better.

    Ended and failed trials must be among them, so that a trial which has lost its place never gets it back: its state
    is gone.
    """
    return set(sorted(values, key=lambda number: (-values[number], number))[:KEPT])


def has_rest(trial: JournaledTrial, plan: Plan) -> bool:
    """Whether a trial was stopped before its last epoch."""
    last = trial.last
    return trial.state == "pruned" and last is not None and last.epoch < recipe_of(trial, plan).epochs
