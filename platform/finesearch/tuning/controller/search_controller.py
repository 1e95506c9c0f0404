"""Decides what runs next, what goes on and what a trial's end means. Knows the journal, knows no Ray."""

from __future__ import annotations

import contextlib
import math
import os
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import optuna
from optuna.exceptions import StorageInternalError
from optuna.trial import FrozenTrial
from sqlalchemy.exc import SQLAlchemyError

from finesearch.errors import DiskFullError, FinesearchError, StorageError
from finesearch.plan import ADAPTATIONS, Plan, Recipe
from finesearch.plan.space.first_trials import first_configuration
from finesearch.storage.object_store import Place, is_remote
from finesearch.tuning.controller.budget_usage import Spending, why_spent
from finesearch.tuning.controller.time_left import Forecast
from finesearch.tuning.controller.trial_costs import TrialCosts
from finesearch.tuning.controller.trial_outcomes import ACTOR_DIED, Endings, payload_error
from finesearch.tuning.samplers.latin_hypercube import spread_configuration
from finesearch.tuning.samplers.sampler_factory import make_sampler, trial_seed
from finesearch.tuning.study.checkpoint_dirs import TrialFolders
from finesearch.tuning.study.checkpoint_retention import Retention, trial_name
from finesearch.tuning.study.journal import ASKED, Journal, Outcome, Verdict, decisions

if TYPE_CHECKING:
    from collections.abc import Mapping

SEARCH, BASELINES = "search", "baselines"
SOON_S = 15.0


@dataclass(frozen=True)
class Seat:
    """Which trial of which study a Tune trial is running."""

    study: str
    number: int


class Conductor:
    """The policy of one search; every method is called by the driver, from one thread at a time.

    Args:
        plan: what to search.
        search: journal of the trials that the sampler suggests.
        baselines: journal of the fixed recipes that are run for comparison.
        run: run folder, or its place in an object store; checkpoints go below ``checkpoints/``.
        concurrent_trials: worker groups at once.
        spending: clock and device-seconds, over all resumes.
        fixed: recipes that are run beside the search, by the name of the baseline; each once.
        on_change: called after each event (progress, report refresh).
        costs: what trials cost, where that is known already (see :meth:`reckon_with`); baselines start first without.
    """

    def __init__(
        self,
        plan: Plan,
        search: Journal,
        baselines: Journal,
        run: Path | Place,
        concurrent_trials: int,
        spending: Spending,
        fixed: Mapping[str, Recipe],
        on_change: Callable[[], None] = lambda: None,
        costs: TrialCosts | None = None,
    ) -> None:
        self.plan = plan
        self.journals: Mapping[str, Journal] = {SEARCH: search, BASELINES: baselines}
        self._folders = TrialFolders.of_run(run)
        self._where = str(run) if isinstance(run, Path) else run.shown
        self.concurrent_trials = concurrent_trials
        self.waiting: str | None = None  # why trials have no devices, where some have none
        self.none_has_devices = False  # of the trials that were given out
        self.spending = spending
        self._fixed = dict(fixed)
        self.fatal: FinesearchError | None = None
        self.closing: str | None = None
        self._retention = Retention(plan, search, run)
        self._endings = Endings(plan)
        self._on_change = on_change
        self._forecast: Forecast | None = None
        self._seats: dict[str, Seat] = {}
        self._waiting = self._left_running()
        self._lock = threading.RLock()
        self._check_budget()
        if costs is not None:
            self.reckon_with(costs)

    def reckon_with(self, costs: TrialCosts) -> None:
        """From now on trials cost this; before, they start in the order in which they were asked for."""
        studies = {study: self.journals[study] for study in (BASELINES, SEARCH)}
        self._forecast = Forecast(self.plan, costs, studies, self.recipe)
        self._waiting = self._longest_first(self._waiting)

    # -- what runs next ----------------------------------------------------------------------------------------------

    def next_job(self, trial_id: str) -> dict[str, Any] | None:
        """The job for a new Tune trial; None when nothing is to be started now (see :attr:`is_finished`)."""
        with self._lock, self._storage_trouble_ends_the_search():
            self._check_budget()
            if self.closing:
                return None
            self._ask_baselines()
            seat = self._waiting.pop(0) if self._waiting else self._ask()
            if seat is None:
                return None
            self._seats[trial_id] = seat
            return self._job(seat)
        return None

    @property
    def is_finished(self) -> bool:
        """No trial will be asked for any more, not even in place of one that may still fail."""
        if self.closing:
            return True
        counts = self.journals[SEARCH].counts()
        is_spent = counts["complete"] + counts["pruned"] >= self._wanted()
        return not self._waiting and not self._missing_baselines and is_spent

    @property
    def is_full(self) -> bool:
        """As many trials run as there is room for."""
        return len(self._seats) >= self.concurrent_trials

    @property
    def running(self) -> int:
        """Trials that were given out and have not ended."""
        return len(self._seats)

    @property
    def trials_left(self) -> int:
        """Trials that run or are still to run, if none fails."""
        counts = self.journals[SEARCH].counts()
        unasked = self._wanted() - counts["complete"] - counts["pruned"] - counts["running"]
        running = counts["running"] + self.journals[BASELINES].counts()["running"]
        return max(0, unasked) + running + len(self._missing_baselines)

    @property
    def is_ending(self) -> bool:
        """A worker group has nothing left to do while others still run, or all will be over within ``SOON_S``."""
        if self.closing or self._waiting or self._missing_baselines or not self._seats:
            return False
        counts = self.journals[SEARCH].counts()
        unasked = self._wanted() - counts["complete"] - counts["pruned"] - counts["running"]
        if unasked <= 0 and len(self._seats) < self.concurrent_trials:
            return True
        left = self.seconds_left() if unasked <= self.concurrent_trials else None
        return left is not None and left <= SOON_S

    def _wanted(self) -> int:
        wanted = self.plan.budget.trials
        if self.plan.search.sampler == "grid":
            cells = math.prod(len(values) for values in self.plan.space.grid().values())
            wanted = min(wanted, max(0, cells - self.journals[SEARCH].counts()["failed"]))
        return wanted

    def _ask(self) -> Seat | None:
        journal = self.journals[SEARCH]
        counts = journal.counts()
        if counts["complete"] + counts["pruned"] + counts["running"] >= self._wanted():
            return None
        number = sum(counts.values())
        first = self.plan.search.first
        given = first_configuration(self.plan.space, first[number]) if number < len(first) else None
        if given is None:
            given = spread_configuration(self.plan, number)
        if given is None and self.plan.search.cost_weight:
            assert self._forecast is not None, "trials that are chosen by cost need costs"
            given = self._forecast.weighed(journal, number)
        sampler = make_sampler(self.plan, number, self.concurrent_trials)
        trial = journal.ask(self.plan.space.suggest, sampler, given)
        self._on_change()
        return Seat(SEARCH, trial.number)

    @property
    def _missing_baselines(self) -> list[str]:
        asked = self.baseline_trials
        return [label for label in self._fixed if label not in asked]

    @property
    def baseline_trials(self) -> dict[str, FrozenTrial]:
        """The journaled runs of the fixed recipes, by name of the baseline."""
        return {trial.user_attrs[ASKED]["label"]: trial for trial in self.journals[BASELINES].trials()}

    def _ask_baselines(self) -> None:
        seats = []
        for label in self._missing_baselines:
            recipe = self._fixed[label].model_dump(mode="json")
            sampler = optuna.samplers.RandomSampler(seed=0)
            trial = self.journals[BASELINES].ask(lambda _: {}, sampler, note={"recipe": recipe, "label": label})
            seats.append(Seat(BASELINES, trial.number))
        if seats:
            self._waiting = self._longest_first([*seats, *self._waiting])

    def _left_running(self) -> list[Seat]:
        """Trials to go on with; those whose verdict was journaled but not acted on are ended first."""
        seats = []
        for study in (BASELINES, SEARCH):
            for trial in self.journals[study].running():
                steps = decisions(trial)
                if steps and not steps[max(steps)]["go_on"]:
                    self._finish(Seat(study, trial.number), self._endings.pruned(steps, self.closing))
                else:
                    seats.append(Seat(study, trial.number))
        return seats

    def _longest_first(self, seats: list[Seat]) -> list[Seat]:
        """Where several trials wait, the longest starts first, so that none runs alone at the end (Graham, 1969)."""
        if self._forecast is None or len(seats) < 2:
            return seats
        left = {seat: self._forecast.remaining(seat.study, seat.number) for seat in seats}
        return sorted(seats, key=lambda seat: -left[seat])

    def seconds_left(self) -> float | None:
        """Seconds until everything that is still to be run is over; None before a trial has been evaluated."""
        if self._forecast is None:
            return None
        with self._lock:
            counts = self.journals[SEARCH].counts()
            asked = counts["complete"] + counts["pruned"] + counts["running"]
            left = self._forecast.left(max(0, self._wanted() - asked), self.concurrent_trials)
        hours = self.plan.budget.hours
        return left if left is None or hours is None else min(left, max(0.0, 3600 * hours - self.spending.seconds))

    def _job(self, seat: Seat) -> dict[str, Any]:
        trial = self.journals[seat.study].get(seat.number)
        steps = decisions(trial)
        return {
            "study": seat.study,
            "number": seat.number,
            "decided": max(steps, default=0),
            "seed": trial_seed(self.plan.training.seed, seat.number if seat.study == SEARCH else -1),
            "recipe": self.recipe(seat.study, trial).model_dump(mode="json"),
            "directory": self.directory(seat),
            "bar": self._retention.bar if seat.study == SEARCH else None,
        }

    def recipe(self, study: str, trial: FrozenTrial) -> Recipe:
        """The recipe of a journaled trial."""
        asked = trial.user_attrs[ASKED]
        if study == BASELINES:
            return Recipe.model_validate(asked["recipe"])
        return self.plan.space.recipe(asked["parameters"], self.plan.training)

    def directory(self, seat: Seat) -> str:
        """Checkpoint folder of a trial, or its URI."""
        return self._folders.address(trial_name(seat.number) if seat.study == SEARCH else f"baseline-{seat.number}")

    def holds(self, checkpoint: str | None, number: int) -> bool:
        """Whether a checkpoint that a trial has told of is still there; a store is not asked for it."""
        if checkpoint is None:
            return False
        return self._retention.holds(number) if is_remote(checkpoint) else os.path.isdir(checkpoint)

    def forget_unknown(self) -> None:
        """See :meth:`Retention.forget_unknown`; before the first trial is asked for."""
        self._retention.forget_unknown()

    # -- what goes on ------------------------------------------------------------------------------------------------

    def evaluation(self, trial_id: str, payload: dict[str, Any]) -> bool:
        """Journal one evaluation; True when the trial goes on."""
        with self._lock, self._storage_trouble_ends_the_search():
            seat = self._seats[trial_id]
            value = self._endings.quality(payload)
            if value is None:
                return False  # ended as failed by `trial_ended`, which gets the same payload
            self.spending.trained((seat.study, seat.number), payload["seconds"])
            journal = self.journals[seat.study]
            go_on = journal.report(seat.number, payload["step"], value, payload, self._is_judged(seat))
            self._check_budget()
            self._on_change()
            return go_on and self.closing is None
        return False

    def _is_judged(self, seat: Seat) -> bool:
        """What trains nothing is over with its one evaluation: it neither is stopped nor stops others."""
        return ADAPTATIONS[self.recipe(seat.study, self.journals[seat.study].get(seat.number)).adaptation].trains

    def trial_ended(self, trial_id: str, payload: dict[str, Any] | None, error: bool) -> None:
        """A trial's last word. Idempotent, since Tune repeats the call when it fails."""
        with self._lock, self._storage_trouble_ends_the_search():
            seat = self._seats.get(trial_id)
            if seat is None or self.fatal is not None:
                return
            outcome, verdict = self._ending(seat, payload, error)
            if outcome is not None:
                self._finish(seat, outcome, verdict)
            del self._seats[trial_id]
            self._check_budget()
            self._on_change()

    def _ending(self, seat: Seat, payload: dict[str, Any] | None, error: bool) -> tuple[Outcome | None, Verdict | None]:
        """What a trial came to, and the verdict on the evaluation that it ended with, if that is still to be journaled.

        No outcome leaves the trial running in the journal: it is gone on with by the next driver.
        """
        if payload is None and not error and self.none_has_devices:
            return Outcome("failed", f"no devices were free for it until the search ended: {self.closing}"), None
        if error or payload is None:
            return ACTOR_DIED, None
        journal = self.journals[seat.study]
        if "state" not in payload:
            return self._endings.of_stopped(journal.get(seat.number), payload, self.closing), None
        detail = payload.get("detail") or {}
        self.spending.trained((seat.study, seat.number), detail.get("seconds") or 0.0)
        if payload["state"] == "fatal":
            self.fatal = payload_error(payload)
            self.closing = self.fatal.message
            return None, None
        last = detail.pop("last", None)
        verdict = None
        if last is not None:
            value = self._endings.quality(last)
            if value is None:
                return self._endings.of_stopped(journal.get(seat.number), last, self.closing), None
            verdict = journal.judge(seat.number, last["step"], value, last, self._is_judged(seat))
            if not verdict.go_on:
                return self._endings.pruned({verdict.step: verdict.kept}, None), verdict
        return self._endings.of_ended(payload, is_baseline=seat.study == BASELINES), verdict

    def _finish(self, seat: Seat, outcome: Outcome, last: Verdict | None = None) -> None:
        self.journals[seat.study].finish(seat.number, outcome, last)
        if seat.study == SEARCH:
            self._retention.trial_ended(seat.number)

    @contextlib.contextmanager
    def _storage_trouble_ends_the_search(self) -> Iterator[None]:
        """What cannot be journaled has not happened: the search ends, and goes on from what is on disk."""
        try:
            yield
        except (StorageInternalError, SQLAlchemyError) as error:
            cause = error.__cause__ or error
            text = (
                f"{self._where}: the journal cannot be written: {str(cause).splitlines()[0]}. "
                "Free space or mend the disk; then the same command goes on."
            )
            self.fatal = DiskFullError(text) if "full" in str(cause) else StorageError(text)
            self.closing = text

    # -- budgets -----------------------------------------------------------------------------------------------------

    def _check_budget(self) -> None:
        self.closing = self.closing or why_spent(self.plan.budget, self.journals[SEARCH], self.spending)

    @property
    def is_stopped(self) -> bool:
        """Running trials, too, are to be ended now: nothing that they could still report would be used."""
        ends_all = self.closing is not None and (self.none_has_devices or "trials failed" in self.closing)
        return self.fatal is not None or ends_all

    def give_up(self, error: FinesearchError) -> None:
        """End the search, running trials too, for a reason that lies outside of it; from any thread."""
        with self._lock:
            self.fatal = self.fatal or error
            self.closing = self.closing or error.message

    def tick(self) -> None:
        """Let time pass: called between events, so that a budget of hours ends a search in which nothing reports."""
        with self._lock, self._storage_trouble_ends_the_search():
            self.spending.keep()
            self._check_budget()
