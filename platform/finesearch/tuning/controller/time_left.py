"""Estimates the remaining time of a search from the trials in its journals."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import TYPE_CHECKING

from finesearch.plan import Scalar
from finesearch.tuning.controller.trial_costs import SAMPLE, Calibration, TrialCosts, TrialProgress
from finesearch.tuning.messages import EvaluationReport
from finesearch.tuning.samplers.cost_aware import cost_aware_configuration
from finesearch.tuning.study.journal import Journal
from finesearch.tuning.study.journaled_trial import JournaledTrial, recipe_of

if TYPE_CHECKING:
    from finesearch.plan import Plan


class TimeLeft:
    """Compares estimated trial costs with the journals of a search.

    Args:
        plan: the search's.
        costs: estimated costs of its trials.
        journals: by study name; those of fixed recipes first.
    """

    def __init__(self, plan: Plan, costs: TrialCosts, journals: Mapping[str, Journal]) -> None:
        self._plan, self._costs, self._journals = plan, costs, journals
        self._ended: dict[tuple[str, int], tuple[JournaledTrial, TrialProgress]] = {}

    def remaining(self, study: str, number: int) -> float:
        """Remaining seconds of a trial; before any measurement, only ratios between trials mean anything."""
        return self._costs.remaining(self._run(study, self._journals[study].get(number)), self._calibration())

    def left(self, unasked: int, concurrent_trials: int, are_whole: bool = False) -> float | None:
        """Seconds until ``unasked`` more trials and the running ones end; None before a trial was evaluated.

        are_whole: all of them will be trained to their end, though those before were not.
        """
        return self._costs.left(*self._runs(), unasked, concurrent_trials, are_whole)

    def ends_cheaply(self, study: str, number: int, report: EvaluationReport) -> bool:
        """Whether the rest of a trial costs no more than starting another: its start, and training up to its first
        evaluation. Stopping would then buy no verdict about any other configuration.

        The rest is estimated from what the trial took so far. The training that another needs comes from the cost
        model, at the speed of this trial; its start is the shortest of the last ``SAMPLE`` trials, since others waited
        for a model or a cache.
        """
        run = self._costs.run_of(recipe_of(self._journals[study].get(number), self._plan), report)
        if not 0.0 < run.share < 1.0:
            return run.share >= 1.0
        rest_s = run.seconds * (1.0 - run.share) / run.share
        speed = run.seconds / (run.estimated * run.share)
        return bool(rest_s <= self._start_s(study) + speed * self._costs.first_evaluation)

    def _start_s(self, study: str) -> float:
        """Seconds from a group's taking a trial to its first verdict, less those of training; 0 before any is known."""
        journal = self._journals[study]
        asked = sum(journal.counts().values())
        trials = (journal.get(number) for number in range(max(0, asked - SAMPLE), asked))
        firsts = (trial.evaluations[1] for trial in trials if 1 in trial.evaluations)
        return max(0.0, min((first.at - first.began - first.seconds for first in firsts), default=0.0))

    def choose_by_cost(self, journal: Journal, number: int) -> dict[str, Scalar] | None:
        """Configuration of trial ``number`` where the plan weighs cost; None leaves it to the sampler."""
        search = self._plan.search
        if not search.cost_weight or search.sampler != "tpe":
            return None
        # Uncalibrated estimates: measured times differ from run to run, and so would the trials.
        seconds = functools.partial(self._costs.seconds, calibration=None)
        return cost_aware_configuration(self._plan, journal, number, seconds)

    def _calibration(self) -> Calibration | None:
        ended, under_way = self._runs()
        return self._costs.calibrate([*ended, *under_way])

    def _runs(self) -> tuple[list[TrialProgress], list[TrialProgress]]:
        """Trials that completed or were stopped, and running ones."""
        ended, under_way = [], []
        for study, journal in self._journals.items():
            for trial in journal.trials():
                if trial.state == "running":
                    under_way.append(self._run(study, trial))
                elif trial.state != "failed":
                    ended.append(self._run(study, trial))
        return ended, under_way

    def _run(self, study: str, trial: JournaledTrial) -> TrialProgress:
        """Progress of one trial; one that has ended is read once."""
        known = self._ended.get((study, trial.number))
        if known is not None and known[0] is trial:  # it has not gone on since
            return known[1]
        run = self._costs.run_of(recipe_of(trial, self._plan), trial.last)
        if trial.is_finished:
            self._ended[study, trial.number] = trial, run
        return run
