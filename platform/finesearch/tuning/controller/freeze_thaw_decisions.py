"""Decisions of ``sampler: freeze_thaw`` for the journal of a search, and the epochs that its budget is worth."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from finesearch.plan import Plan
from finesearch.tuning.messages import EvaluationReport
from finesearch.tuning.samplers.freeze_thaw import Decision, FreezeThaw, PastTrial, ResumeTrial
from finesearch.tuning.study.journaled_trial import JournaledEvaluation, JournaledTrial, planned_evaluations
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
        if self.epochs_left - newly - self._reserved(self.journal.running_numbers() - {number}) <= EPOCHS_OF_NO_USE:
            return False
        trials = self._past()
        trials[number] = replace(self._past_trial(self._with(number, report, value), True), state="paused")
        return self._decide(trials) == ResumeTrial(number)

    @property
    def epochs_left(self) -> float:
        """Epochs of training that the budget leaves. It is worth those of ``budget.trials`` trials of mean length."""
        last = [trial.last for trial in self.journal.trials()]
        used = sum(self._epochs(each.epoch) for each in last if each is not None)
        return self.plan.budget.trials * self.plan.mean_epochs - used

    @property
    def whole_trials_left(self) -> int:
        """Whole trials that the budget leaves, rounded up, once each running trial may be paused."""
        left = self.epochs_left - self._reserved(self.journal.running_numbers())
        return math.ceil(left / self.plan.mean_epochs) if left > EPOCHS_OF_NO_USE else 0

    def _reserved(self, running: Iterable[int]) -> float:
        """Epochs that running trials will train before they may be paused."""
        last = [self.journal.get(number).last for number in running]
        ahead = [max(1, self.plan.search.min_evaluations - (0 if each is None else each.step)) for each in last]
        return sum(ahead) / self.plan.training.evaluations_per_epoch

    def _epochs(self, epoch: float) -> float:
        # A trial that trains nothing ends with its one evaluation, at epoch 0; it counts as the shortest training.
        return epoch or 1.0 / self.plan.training.evaluations_per_epoch

    @property
    def _sign(self) -> float:
        return 1.0 if self.journal.directions[0].maximize else -1.0

    def _with(self, number: int, report: EvaluationReport, value: float) -> JournaledTrial:
        """A trial with an evaluation that is not journaled yet."""
        trial = self.journal.get(number)
        judged = JournaledEvaluation(**dict(report), value=value, go_on=True, at=0.0)
        return replace(trial, evaluations={**trial.evaluations, report.step: judged})

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
