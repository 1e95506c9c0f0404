"""Queue of trials: those that an earlier driver left running, then baselines, then the sampler's suggestions, then
stopped trials that go on."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import optuna

from finesearch.plan import Plan, Recipe, Scalar
from finesearch.plan.space.first_trials import first_configuration
from finesearch.plan.space.strong_recipe import STRONG
from finesearch.tuning.controller.finalists import Finalists
from finesearch.tuning.controller.freeze_thaw_decisions import EPOCHS_OF_NO_USE, FreezeThawDecisions
from finesearch.tuning.controller.time_left import TimeLeft
from finesearch.tuning.controller.trial_costs import TrialCosts
from finesearch.tuning.messages import EvaluationReport
from finesearch.tuning.samplers.freeze_thaw import ResumeTrial
from finesearch.tuning.samplers.latin_hypercube import latin_hypercube_configuration
from finesearch.tuning.samplers.sampler_factory import make_sampler
from finesearch.tuning.study.journal import Journal
from finesearch.tuning.study.journaled_trial import JournaledTrial
from finesearch.tuning.study.paused_trials import pauses_trials

SEARCH, BASELINES = "search", "baselines"


@dataclass(frozen=True)
class TrialKey:
    """Identifies a trial: its study and its number."""

    study: str
    number: int


class TrialQueue:
    """Creates trials when the controller needs them; called under the controller's lock.

    Args:
        plan: what to search.
        journals: by study name.
        fixed: recipes that are run beside the search, by baseline name; each once.
        waiting: trials to resume.
        finalists: stopped trials of the search that go on once its others have ended.
        strong: configuration of the strong recipe, which is the search's first trial; None where it is none of it.
    """

    def __init__(
        self,
        plan: Plan,
        journals: Mapping[str, Journal],
        fixed: Mapping[str, Recipe],
        waiting: Iterable[TrialKey],
        finalists: Finalists,
        strong: Mapping[str, Scalar] | None = None,
    ) -> None:
        self._strong = strong
        self._plan, self._journals, self._fixed, self._finalists = plan, journals, dict(fixed), finalists
        self._waiting = list(waiting)
        self._time_left: TimeLeft | None = None
        self.freeze_thaw: FreezeThawDecisions | None = None
        """Decides which trials are paused and which go on; None for samplers that pause none."""
        if pauses_trials(plan):
            given = len(plan.search.first) + (strong is not None)
            self.freeze_thaw = FreezeThawDecisions(plan, finalists.journal, given)

    def set_trial_costs(self, costs: TrialCosts) -> None:
        """Set estimated trial costs; before this call, trials start in the order in which they were suggested."""
        studies = {study: self._journals[study] for study in (BASELINES, SEARCH)}
        self._time_left = TimeLeft(self._plan, costs, studies)
        self._finalists.time_left = self._time_left
        self._waiting = self._longest_first(self._waiting)

    def next_trial(self, concurrent_trials: int) -> TrialKey | None:
        """The trial to start now, at this concurrency; None when no more may start yet."""
        self._ask_baselines()
        return self._waiting.pop(0) if self._waiting else self._ask(concurrent_trials) or self._resume_finalist()

    @property
    def has_known(self) -> bool:
        """Some queued trials do not need the sampler."""
        return bool(self._waiting or self._missing_baselines)

    @property
    def is_spent(self) -> bool:
        """The budget's number of trials have completed or were stopped, and none of these will go on."""
        counts = self._journals[SEARCH].counts()
        if self.freeze_thaw is not None:
            is_used_up = self.freeze_thaw.epochs_left <= EPOCHS_OF_NO_USE
        else:
            is_used_up = counts["complete"] + counts["pruned"] >= self._trial_target()
        return is_used_up and not self._finalists.numbers()

    @property
    def unasked(self) -> int:
        """Trials that the sampler has still to suggest, if none fails; whole ones where it pauses trials."""
        if self.freeze_thaw is not None:
            return self.freeze_thaw.whole_trials_left
        counts = self._journals[SEARCH].counts()
        return max(0, self._trial_target() - counts["complete"] - counts["pruned"] - counts["running"])

    @property
    def trials_left(self) -> int:
        """Trials that run or are still to run, if none fails."""
        running = sum(self._journals[study].counts()["running"] for study in (SEARCH, BASELINES))
        return self.unasked + running + len(self._missing_baselines) + len(self._due_finalists)

    @property
    def baseline_trials(self) -> dict[str, JournaledTrial]:
        """The journaled runs of the fixed recipes, by baseline name; the strong one may be a trial of the search."""
        found = {str(trial.label): trial for trial in self._journals[BASELINES].trials()}
        return found | ({STRONG: self._journals[SEARCH].get(0)} if self._is_strong_first else {})

    @property
    def _is_strong_first(self) -> bool:
        """Whether the first trial of the search is the strong recipe."""
        journal = self._journals[SEARCH]
        return any(journal.counts().values()) and journal.get(0).label == STRONG

    def ends_cheaply(self, key: TrialKey, report: EvaluationReport) -> bool:
        """See :meth:`TimeLeft.ends_cheaply`; False before costs are known."""
        return self._time_left is not None and self._time_left.ends_cheaply(key.study, key.number, report)

    def seconds_left(self, concurrent_trials: int) -> float | None:
        """Estimated seconds until the search ends; None before a trial has been evaluated."""
        if self._time_left is None:
            return None
        return self._time_left.left(self.unasked, concurrent_trials, are_whole=self.freeze_thaw is not None)

    def _trial_target(self) -> int:
        target = self._plan.budget.trials
        if self._plan.search.sampler == "grid":
            cells = math.prod(len(values) for values in self._plan.space.grid().values())
            target = min(target, max(0, cells - self._journals[SEARCH].counts()["failed"]))
        return target

    def _ask(self, concurrent_trials: int) -> TrialKey | None:
        if not self.unasked:
            return None
        journal = self._journals[SEARCH]
        number = sum(journal.counts().values())
        if self._strong is not None and not number:
            sampler = make_sampler(self._plan, number, concurrent_trials)
            asked = journal.ask(self._plan.space.suggest, sampler, dict(self._strong), note={"label": STRONG})
            return TrialKey(SEARCH, asked.number)
        first, place = self._plan.search.first, number - self._is_strong_first
        given = first_configuration(self._plan.space, first[place]) if place < len(first) else None
        if given is None and self.freeze_thaw is not None:
            decision = self.freeze_thaw.next()
            if isinstance(decision, ResumeTrial):
                return TrialKey(SEARCH, self._finalists.journal.resume(decision.place, to_end=False).number)
            given = dict(decision.parameters)
        if given is None:
            given = latin_hypercube_configuration(self._plan, place)
        if given is None and self._plan.search.cost_weight:
            assert self._time_left is not None, "trials that are chosen by cost need costs"
            given = self._time_left.choose_by_cost(journal, number)
        sampler = make_sampler(self._plan, number, concurrent_trials)
        return TrialKey(SEARCH, journal.ask(self._plan.space.suggest, sampler, given).number)

    @property
    def has_finalists(self) -> bool:
        """All trials were suggested, and by what is known some of those that were stopped will go on."""
        return not self.unasked and bool(self._finalists.numbers())

    @property
    def _due_finalists(self) -> list[int]:
        """Stopped trials to go on with now: no other trial of the search runs, so their places are final."""
        journal = self._finalists.journal
        if self.unasked or journal.running_numbers() - journal.finishing_numbers():
            return []
        return self._finalists.numbers()

    def _resume_finalist(self) -> TrialKey | None:
        due = self._due_finalists
        return TrialKey(SEARCH, self._finalists.journal.resume(due[0]).number) if due else None

    @property
    def _missing_baselines(self) -> list[str]:
        asked = self.baseline_trials
        return [label for label in self._fixed if label not in asked]

    def _ask_baselines(self) -> None:
        keys = []
        for label in self._missing_baselines:
            recipe = self._fixed[label].model_dump(mode="json")
            sampler = optuna.samplers.RandomSampler(seed=0)
            trial = self._journals[BASELINES].ask(lambda _: {}, sampler, note={"recipe": recipe, "label": label})
            keys.append(TrialKey(BASELINES, trial.number))
        if keys:
            self._waiting = self._longest_first([*keys, *self._waiting])

    def _longest_first(self, keys: list[TrialKey]) -> list[TrialKey]:
        """Queued trials, longest first, so that none runs alone at the end (Graham, 1969)."""
        if self._time_left is None or len(keys) < 2:
            return keys
        left = {key: self._time_left.remaining(key.study, key.number) for key in keys}
        return sorted(keys, key=lambda key: -left[key])
