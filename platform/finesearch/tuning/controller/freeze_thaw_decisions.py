"""Decisions of ``sampler: freeze_thaw`` for the journal of a search, and the epochs that its budget is worth."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from finesearch.plan import Plan
from finesearch.tuning.messages import EvaluationReport
from finesearch.tuning.samplers.freeze_thaw import Decision, FreezeThaw, PastTrial, ResumeTrial
from finesearch.tuning.study.journaled_trial import JournaledTrial, planned_evaluations
from finesearch.tuning.study.paused_trials import has_rest, numbers_with_state
from finesearch.tuning.study.resumable_journal import ResumableJournal

EPOCHS_OF_NO_USE = 1e-6
"""What sums of parts of epochs may be off by."""


@dataclass(eq=False)
class FreezeThawDecisions:
    """What a free worker does next, and whether an evaluated trial goes on. Both follow from the journal.

    given: trials at the start of the search whose configuration is not the sampler's.
    """

    plan: Plan
    journal: ResumableJournal
    given: int
    _taken: tuple[list[PastTrial], Decision] | None = field(default=None, init=False)

    def next(self) -> Decision:
        """A new trial, or the number of a paused one."""
        return self._decide(self._past())

    def goes_on(self, number: int, report: EvaluationReport, value: float) -> bool:
        """Whether a running trial goes on after an evaluation that is not journaled yet; value: its objective."""
        if report.step < self.plan.search.min_evaluations:
            return True
        before = self.journal.get(number).last
        newly = self._epochs(report.epoch) - (0.0 if before is None else self._epochs(before.epoch))
        others = len(self.journal.running_numbers() - {number})
        if self._unassigned(others) - newly <= EPOCHS_OF_NO_USE:
            return False
        trials = self._past()
        known = trials[number]
        trials[number] = PastTrial(
            known.parameters, (*known.values, self._sign * value), self._whole(number, report), "paused"
        )
        return self._decide(trials) == ResumeTrial(number)

    @property
    def epochs_left(self) -> float:
        """Epochs of training that the budget leaves. It is worth those of ``budget.trials`` trials of mean length."""
        last = [trial.last for trial in self.journal.trials()]
        used = sum(self._epochs(each.epoch) for each in last if each is not None)
        return self.plan.budget.trials * self.plan.mean_epochs - used

    @property
    def whole_trials_left(self) -> int:
        """Whole trials that the budget leaves, rounded up, once each running trial has come to its next evaluation."""
        left = self._unassigned(len(self.journal.running_numbers()))
        return math.ceil(left / self.plan.mean_epochs) if left > EPOCHS_OF_NO_USE else 0

    def _unassigned(self, running: int) -> float:
        return self.epochs_left - running / self.plan.training.evaluations_per_epoch

    def _epochs(self, epoch: float) -> float:
        # A trial that trains nothing ends with its one evaluation, at epoch 0; it counts as the shortest training.
        return epoch or 1.0 / self.plan.training.evaluations_per_epoch

    @property
    def _sign(self) -> float:
        return 1.0 if self.journal.directions[0].maximize else -1.0

    def _whole(self, number: int, report: EvaluationReport) -> int:
        """Evaluations of a whole trial, by its first one."""
        trial = self.journal.get(number)
        planned = planned_evaluations(trial, self.plan)
        if planned is None:
            per_epoch = round(report.step / report.epoch) if report.epoch else 1
            planned = self.plan.space.recipe(trial.parameters, self.plan.training).epochs * max(1, per_epoch)
        return max(planned, report.step)

    def _past(self) -> list[PastTrial]:
        can_go_on = numbers_with_state(self.journal)
        return [self._past_trial(trial, trial.number in can_go_on) for trial in self.journal.trials()]

    def _past_trial(self, trial: JournaledTrial, has_state: bool) -> PastTrial:
        values = tuple(self._sign * each.value for each in trial.evaluations.values())
        planned = max(planned_evaluations(trial, self.plan) or 1, len(values))
        return PastTrial(
            trial.parameters,
            values,
            len(values) if trial.state == "complete" else planned,
            self._state(trial, has_state),
        )

    def _state(self, trial: JournaledTrial, has_state: bool) -> Literal["running", "paused", "ended", "failed"]:
        match trial.state:
            case "running" | "failed":
                return trial.state
        can_go_on = has_state and has_rest(trial, self.plan) and trial.detail.resume_error is None
        return "paused" if can_go_on else "ended"

    def _decide(self, trials: Sequence[PastTrial]) -> Decision:
        """The decision, which is worked out once: the trial that is paused by it and the next one ask the same."""
        if self._taken is None or self._taken[0] != trials:
            search = self.plan.search
            policy = FreezeThaw(self.plan.space, search.startup_trials, search.seed, self.given)
            self._taken = list(trials), policy.next(trials)
        return self._taken[1]
