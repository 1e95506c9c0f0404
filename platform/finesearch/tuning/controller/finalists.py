"""Finalists: stopped trials among the best that go on to their end once the search's other trials have ended.

A trial is stopped early on little evidence, and its last evaluations may be its best. Which trials are finalists
follows from the journal at any moment: no other stopped trial takes a place among the best meanwhile, since trials that
go on only get better. So a driver that takes over from a killed one finds the same finalists.
"""

from __future__ import annotations

from dataclasses import dataclass

from finesearch.plan import Plan
from finesearch.tuning.controller.budget_usage import BudgetUsage, budget_shortage
from finesearch.tuning.controller.time_left import TimeLeft
from finesearch.tuning.study.checkpoint_retention import rankable_trials
from finesearch.tuning.study.journaled_trial import JournaledTrial
from finesearch.tuning.study.paused_trials import has_rest
from finesearch.tuning.study.resumable_journal import ResumableJournal


@dataclass(eq=False)
class Finalists:
    """The finalists of one search; ``study``: name of its journal. ``time_left`` estimates; None before costs are
    known."""

    plan: Plan
    study: str
    journal: ResumableJournal
    usage: BudgetUsage
    time_left: TimeLeft | None = None

    def numbers(self) -> list[int]:
        """Trials that are to go on, best first."""
        return [trial.number for trial in self._stopped() if self._obstacle(trial) is None]

    def obstacles(self) -> dict[int, str]:
        """Stopped trials among the best that stay as they are, with the reason."""
        found = {trial.number: self._obstacle(trial) for trial in self._stopped()}
        return {number: reason for number, reason in found.items() if reason is not None}

    def _stopped(self) -> list[JournaledTrial]:
        top = min(self.plan.search.finish_top, self.plan.report.top)
        if not top or len(self.plan.objectives) > 1:
            return []
        return [trial for trial in rankable_trials(self.journal, top)[:top] if has_rest(trial, self.plan)]

    def _obstacle(self, trial: JournaledTrial) -> str | None:
        if trial.detail.resume_error is not None:
            return trial.detail.resume_error
        if self.time_left is None:
            return None
        running = sum(self.time_left.remaining(self.study, number) for number in self.journal.resumed_numbers())
        rest = self.time_left.remaining(self.study, trial.number)
        return budget_shortage(self.plan.budget, self.usage, rest, running)
