"""Decides what runs next, what goes on and what a trial's end means. Knows the journal, knows no Ray."""

from __future__ import annotations

import contextlib
import math
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import optuna
from optuna.exceptions import StorageInternalError
from optuna.trial import FrozenTrial
from sqlalchemy.exc import SQLAlchemyError

from finesearch.errors import DiskFullError, FinesearchError, StorageError
from finesearch.plan import ADAPTATIONS, Plan, Recipe
from finesearch.plan.space.first_trials import first_configuration
from finesearch.storage.open_store import open_store
from finesearch.storage.store import Store
from finesearch.tuning.controller.budget_usage import BudgetUsage, budget_stop_reason
from finesearch.tuning.controller.time_left import TimeLeft
from finesearch.tuning.controller.trial_costs import TrialCosts
from finesearch.tuning.controller.trial_outcomes import ACTOR_DIED, TrialOutcomes, payload_error
from finesearch.tuning.samplers.latin_hypercube import latin_hypercube_configuration
from finesearch.tuning.samplers.sampler_factory import make_sampler, trial_seed
from finesearch.tuning.study.checkpoint_retention import CHECKPOINTS, CheckpointRetention, trial_dir_name
from finesearch.tuning.study.journal import ASKED, Journal, Outcome, PrunerVerdict, journaled_evaluations

if TYPE_CHECKING:
    from collections.abc import Mapping

SEARCH, BASELINES = "search", "baselines"
SOON_S = 15.0


@dataclass(frozen=True)
class TrialKey:
    """Which trial of which study a Tune trial is running."""

    study: str
    number: int


class SearchController:
    """The policy of one search; every method is called by the driver, from one thread at a time.

    Args:
        plan: what to search.
        search: journal of the trials that the sampler suggests.
        baselines: journal of the fixed recipes that are run for comparison.
        run: where the run is kept; checkpoints go below ``checkpoints/``.
        concurrent_trials: worker groups at once.
        usage: clock and device-seconds, over all resumes.
        fixed: recipes that are run beside the search, by the name of the baseline; each once.
        on_change: called after each event (progress, report refresh).
        costs: what trials cost, where that is known already (see :meth:`set_trial_costs`); baselines start first
        without.
    """

    def __init__(
        self,
        plan: Plan,
        search: Journal,
        baselines: Journal,
        run: Store,
        concurrent_trials: int,
        usage: BudgetUsage,
        fixed: Mapping[str, Recipe],
        on_change: Callable[[], None] = lambda: None,
        costs: TrialCosts | None = None,
    ) -> None:
        self.plan = plan
        self.journals: Mapping[str, Journal] = {SEARCH: search, BASELINES: baselines}
        self._run = run
        self.concurrent_trials = concurrent_trials
        self.waiting: str | None = None  # why trials have no devices, where some have none
        self.no_trial_has_devices = False  # of the trials that were given out
        self.usage = usage
        self._fixed = dict(fixed)
        self.fatal: FinesearchError | None = None
        self.stop_reason: str | None = None
        self._retention = CheckpointRetention(plan, search, run)
        self._outcomes = TrialOutcomes(plan)
        self._on_change = on_change
        self._time_left: TimeLeft | None = None
        self._assigned_trials: dict[str, TrialKey] = {}
        self._waiting = self._recover_running_trials()
        self._lock = threading.RLock()
        self._check_budget()
        if costs is not None:
            self.set_trial_costs(costs)

    def set_trial_costs(self, costs: TrialCosts) -> None:
        """From now on trials cost this; before, they start in the order in which they were asked for."""
        studies = {study: self.journals[study] for study in (BASELINES, SEARCH)}
        self._time_left = TimeLeft(self.plan, costs, studies, self.recipe)
        self._waiting = self._longest_first(self._waiting)

    # -- what runs next ----------------------------------------------------------------------------------------------

    def next_job(self, trial_id: str) -> dict[str, Any] | None:
        """The job for a new Tune trial; None when nothing is to be started now (see :attr:`is_finished`)."""
        with self._lock, self._abort_on_storage_error():
            self._check_budget()
            if self.stop_reason:
                return None
            self._ask_baselines()
            key = self._waiting.pop(0) if self._waiting else self._ask()
            if key is None:
                return None
            self._assigned_trials[trial_id] = key
            return self._job(key)
        return None

    @property
    def is_finished(self) -> bool:
        """No trial will be asked for any more, not even in place of one that may still fail."""
        if self.stop_reason:
            return True
        counts = self.journals[SEARCH].counts()
        is_spent = counts["complete"] + counts["pruned"] >= self._trial_target()
        return not self._waiting and not self._missing_baselines and is_spent

    @property
    def is_full(self) -> bool:
        """As many trials run as there is room for."""
        return len(self._assigned_trials) >= self.concurrent_trials

    @property
    def running(self) -> int:
        """Trials that were given out and have not ended."""
        return len(self._assigned_trials)

    @property
    def trials_left(self) -> int:
        """Trials that run or are still to run, if none fails."""
        counts = self.journals[SEARCH].counts()
        unasked = self._trial_target() - counts["complete"] - counts["pruned"] - counts["running"]
        running = counts["running"] + self.journals[BASELINES].counts()["running"]
        return max(0, unasked) + running + len(self._missing_baselines)

    @property
    def is_ending(self) -> bool:
        """A worker group has nothing left to do while others still run, or all will be over within ``SOON_S``."""
        if self.stop_reason or self._waiting or self._missing_baselines or not self._assigned_trials:
            return False
        counts = self.journals[SEARCH].counts()
        unasked = self._trial_target() - counts["complete"] - counts["pruned"] - counts["running"]
        if unasked <= 0 and len(self._assigned_trials) < self.concurrent_trials:
            return True
        left = self.seconds_left() if unasked <= self.concurrent_trials else None
        return left is not None and left <= SOON_S

    def _trial_target(self) -> int:
        wanted = self.plan.budget.trials
        if self.plan.search.sampler == "grid":
            cells = math.prod(len(values) for values in self.plan.space.grid().values())
            wanted = min(wanted, max(0, cells - self.journals[SEARCH].counts()["failed"]))
        return wanted

    def _ask(self) -> TrialKey | None:
        journal = self.journals[SEARCH]
        counts = journal.counts()
        if counts["complete"] + counts["pruned"] + counts["running"] >= self._trial_target():
            return None
        number = sum(counts.values())
        first = self.plan.search.first
        given = first_configuration(self.plan.space, first[number]) if number < len(first) else None
        if given is None:
            given = latin_hypercube_configuration(self.plan, number)
        if given is None and self.plan.search.cost_weight:
            assert self._time_left is not None, "trials that are chosen by cost need costs"
            given = self._time_left.choose_by_cost(journal, number)
        sampler = make_sampler(self.plan, number, self.concurrent_trials)
        trial = journal.ask(self.plan.space.suggest, sampler, given)
        self._on_change()
        return TrialKey(SEARCH, trial.number)

    @property
    def _missing_baselines(self) -> list[str]:
        asked = self.baseline_trials
        return [label for label in self._fixed if label not in asked]

    @property
    def baseline_trials(self) -> dict[str, FrozenTrial]:
        """The journaled runs of the fixed recipes, by name of the baseline."""
        return {trial.user_attrs[ASKED]["label"]: trial for trial in self.journals[BASELINES].trials()}

    def _ask_baselines(self) -> None:
        keys = []
        for label in self._missing_baselines:
            recipe = self._fixed[label].model_dump(mode="json")
            sampler = optuna.samplers.RandomSampler(seed=0)
            trial = self.journals[BASELINES].ask(lambda _: {}, sampler, note={"recipe": recipe, "label": label})
            keys.append(TrialKey(BASELINES, trial.number))
        if keys:
            self._waiting = self._longest_first([*keys, *self._waiting])

    def _recover_running_trials(self) -> list[TrialKey]:
        """Trials to go on with; those whose verdict was journaled but not acted on are ended first."""
        keys = []
        for study in (BASELINES, SEARCH):
            for trial in self.journals[study].running():
                steps = journaled_evaluations(trial)
                if steps and not steps[max(steps)]["go_on"]:
                    self._finish(TrialKey(study, trial.number), self._outcomes.pruned(steps, self.stop_reason))
                else:
                    keys.append(TrialKey(study, trial.number))
        return keys

    def _longest_first(self, keys: list[TrialKey]) -> list[TrialKey]:
        """Where several trials wait, the longest starts first, so that none runs alone at the end (Graham, 1969)."""
        if self._time_left is None or len(keys) < 2:
            return keys
        left = {key: self._time_left.remaining(key.study, key.number) for key in keys}
        return sorted(keys, key=lambda key: -left[key])

    def seconds_left(self) -> float | None:
        """Seconds until everything that is still to be run is over; None before a trial has been evaluated."""
        if self._time_left is None:
            return None
        with self._lock:
            counts = self.journals[SEARCH].counts()
            asked = counts["complete"] + counts["pruned"] + counts["running"]
            left = self._time_left.left(max(0, self._trial_target() - asked), self.concurrent_trials)
        hours = self.plan.budget.hours
        return left if left is None or hours is None else min(left, max(0.0, 3600 * hours - self.usage.seconds))

    def _job(self, key: TrialKey) -> dict[str, Any]:
        trial = self.journals[key.study].get(key.number)
        steps = journaled_evaluations(trial)
        return {
            "study": key.study,
            "number": key.number,
            "decided": max(steps, default=0),
            "seed": trial_seed(self.plan.training.seed, key.number if key.study == SEARCH else -1),
            "recipe": self.recipe(key.study, trial).model_dump(mode="json"),
            "directory": self.directory(key),
            "bar": self._retention.bar if key.study == SEARCH else None,
        }

    def recipe(self, study: str, trial: FrozenTrial) -> Recipe:
        """The recipe of a journaled trial."""
        asked = trial.user_attrs[ASKED]
        if study == BASELINES:
            return Recipe.model_validate(asked["recipe"])
        return self.plan.space.recipe(asked["parameters"], self.plan.training)

    def directory(self, key: TrialKey) -> str:
        """Checkpoint folder of a trial, or its URI."""
        name = trial_dir_name(key.number) if key.study == SEARCH else f"baseline-{key.number}"
        return self._run.child(CHECKPOINTS, name).address

    def has_checkpoint(self, checkpoint: str | None, number: int) -> bool:
        """Whether a checkpoint that a trial has told of is still there; a store is not asked for it."""
        if checkpoint is None:
            return False
        folder = open_store(checkpoint).folder
        return self._retention.has_checkpoint(number) if folder is None else folder.is_dir()

    def delete_orphaned_checkpoints(self) -> None:
        """See :meth:`CheckpointRetention.delete_orphaned_checkpoints`; before the first trial is asked for."""
        self._retention.delete_orphaned_checkpoints()

    # -- what goes on ------------------------------------------------------------------------------------------------

    def evaluation(self, trial_id: str, payload: dict[str, Any]) -> bool:
        """Journal one evaluation; True when the trial goes on."""
        with self._lock, self._abort_on_storage_error():
            key = self._assigned_trials[trial_id]
            value = self._outcomes.quality(payload)
            if value is None:
                return False  # ended as failed by `trial_ended`, which gets the same payload
            self.usage.trained((key.study, key.number), payload["seconds"])
            journal = self.journals[key.study]
            go_on = journal.report(key.number, payload["step"], value, payload, self._is_prunable(key))
            self._check_budget()
            self._on_change()
            return go_on and self.stop_reason is None
        return False

    def _is_prunable(self, key: TrialKey) -> bool:
        """What trains nothing is over with its one evaluation: it neither is stopped nor stops others."""
        return ADAPTATIONS[self.recipe(key.study, self.journals[key.study].get(key.number)).adaptation].trains

    def trial_ended(self, trial_id: str, payload: dict[str, Any] | None, error: bool) -> None:
        """A trial's last word. Idempotent, since Tune repeats the call when it fails."""
        with self._lock, self._abort_on_storage_error():
            key = self._assigned_trials.get(trial_id)
            if key is None or self.fatal is not None:
                return
            outcome, verdict = self._ending(key, payload, error)
            if outcome is not None:
                self._finish(key, outcome, verdict)
            del self._assigned_trials[trial_id]
            self._check_budget()
            self._on_change()

    def _ending(
        self, key: TrialKey, payload: dict[str, Any] | None, error: bool
    ) -> tuple[Outcome | None, PrunerVerdict | None]:
        """What a trial came to, and the verdict on the evaluation that it ended with, if that is still to be journaled.

        No outcome leaves the trial running in the journal: it is gone on with by the next driver.
        """
        if payload is None and not error and self.no_trial_has_devices:
            return Outcome("failed", f"no devices were free for it until the search ended: {self.stop_reason}"), None
        if error or payload is None:
            return ACTOR_DIED, None
        journal = self.journals[key.study]
        if "state" not in payload:
            return self._outcomes.of_stopped(journal.get(key.number), payload, self.stop_reason), None
        detail = payload.get("detail") or {}
        self.usage.trained((key.study, key.number), detail.get("seconds") or 0.0)
        if payload["state"] == "fatal":
            self.fatal = payload_error(payload)
            self.stop_reason = self.fatal.message
            return None, None
        last = detail.pop("last", None)
        verdict = None
        if last is not None:
            value = self._outcomes.quality(last)
            if value is None:
                return self._outcomes.of_stopped(journal.get(key.number), last, self.stop_reason), None
            verdict = journal.ask_pruner(key.number, last["step"], value, last, self._is_prunable(key))
            if not verdict.go_on:
                return self._outcomes.pruned({verdict.step: verdict.kept}, None), verdict
        return self._outcomes.of_ended(payload, is_baseline=key.study == BASELINES), verdict

    def _finish(self, key: TrialKey, outcome: Outcome, last: PrunerVerdict | None = None) -> None:
        self.journals[key.study].finish(key.number, outcome, last)
        if key.study == SEARCH:
            self._retention.trial_ended(key.number)

    @contextlib.contextmanager
    def _abort_on_storage_error(self) -> Iterator[None]:
        """What cannot be journaled has not happened: the search ends, and goes on from what is on disk."""
        try:
            yield
        except (StorageInternalError, SQLAlchemyError) as error:
            cause = error.__cause__ or error
            text = (
                f"{self._run.shown}: the journal cannot be written: {str(cause).splitlines()[0]}. "
                "Free space or mend the disk; then the same command goes on."
            )
            self.fatal = DiskFullError(text) if "full" in str(cause) else StorageError(text)
            self.stop_reason = text

    # -- budgets -----------------------------------------------------------------------------------------------------

    def _check_budget(self) -> None:
        self.stop_reason = self.stop_reason or budget_stop_reason(self.plan.budget, self.journals[SEARCH], self.usage)

    @property
    def should_stop_running(self) -> bool:
        """Running trials, too, are to be ended now: nothing that they could still report would be used."""
        ends_all = self.stop_reason is not None and (self.no_trial_has_devices or "trials failed" in self.stop_reason)
        return self.fatal is not None or ends_all

    def abort(self, error: FinesearchError) -> None:
        """End the search, running trials too, for a reason that lies outside of it; from any thread."""
        with self._lock:
            self.fatal = self.fatal or error
            self.stop_reason = self.stop_reason or error.message

    def tick(self) -> None:
        """Let time pass: called between events, so that a budget of hours ends a search in which nothing reports."""
        with self._lock, self._abort_on_storage_error():
            self.usage.persist()
            self._check_budget()
