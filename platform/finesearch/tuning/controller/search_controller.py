"""The policy of a search: which trial runs next, which continues, what its end means. Knows the journal, not Ray."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from optuna.exceptions import StorageInternalError
from sqlalchemy.exc import SQLAlchemyError

from finesearch.errors import DiskFullError, FinesearchError, StorageError
from finesearch.plan import ADAPTATIONS, Plan, Recipe, Scalar
from finesearch.plan.space.strong_recipe import STRONG
from finesearch.storage.open_store import open_store
from finesearch.storage.store import Store
from finesearch.tuning.controller.budget_usage import BudgetUsage, budget_stop_reason
from finesearch.tuning.controller.finalists import Finalists
from finesearch.tuning.controller.trial_costs import TrialCosts
from finesearch.tuning.controller.trial_outcomes import (
    ACTOR_DIED,
    BestCheckpoint,
    TrialOutcomes,
    of_failed,
    worker_error,
)
from finesearch.tuning.controller.trial_queue import BASELINES, SEARCH, TrialKey, TrialQueue
from finesearch.tuning.messages import EvaluationReport, Job, TrialCompleted, TrialEvent
from finesearch.tuning.study.checkpoint_retention import CHECKPOINTS, CheckpointRetention, trial_dir_name
from finesearch.tuning.study.journal import Journal
from finesearch.tuning.study.journaled_trial import (
    JournaledEvaluation,
    JournaledTrial,
    Outcome,
    planned_evaluations,
    recipe_of,
)
from finesearch.tuning.study.paused_trials import pauses_trials
from finesearch.tuning.study.resumable_journal import ResumableJournal
from finesearch.tuning.trial_seed import trial_seed

if TYPE_CHECKING:
    from collections.abc import Mapping

SOON_S = 15.0
LOST = "lost"
"""Key of the study's note with the numbers of lost trials."""


@dataclass(frozen=True)
class Concurrency:
    """How many trials run at once, and whether the assigned ones have devices.

    waiting: why some trials have no devices; None where all have.
    """

    concurrent_trials: int
    waiting: str | None = None
    no_trial_has_devices: bool = False


class SearchController:
    """The policy of one search. Methods that change it take its lock, so any thread may call them.

    Args:
        plan: what to search.
        search: journal of the trials that the sampler suggests.
        baselines: journal of the fixed recipes that are run for comparison.
        run: the run's store; checkpoints go below ``checkpoints/``.
        concurrent_trials: worker groups at once.
        usage: wall-clock and device seconds, over all resumes.
        fixed: recipes that are run beside the search, by baseline name; each once.
        strong: configuration of the strong recipe, where it is the first trial of the search: it is never stopped
            early, and its checkpoint is kept.
        read_only: for a report alone: no trial is ended, and no checkpoint deleted.
    """

    def __init__(
        self,
        plan: Plan,
        *,
        search: ResumableJournal,
        baselines: Journal,
        run: Store,
        concurrent_trials: int,
        usage: BudgetUsage,
        fixed: Mapping[str, Recipe],
        strong: Mapping[str, Scalar] | None = None,
        read_only: bool = False,
    ) -> None:
        self.plan = plan
        self.journals: Mapping[str, Journal] = {SEARCH: search, BASELINES: baselines}
        self._run = run
        self._concurrency = Concurrency(concurrent_trials)
        self.usage = usage
        self.fatal: FinesearchError | None = None
        self.stop_reason: str | None = None
        self._retention = CheckpointRetention(plan, search, run, keep_first=strong is not None)
        self._outcomes = TrialOutcomes(plan)
        self._assigned_trials: dict[str, TrialKey] = {}
        waiting = [] if read_only else self._recover_running_trials()
        self._finalists = Finalists(plan, SEARCH, search, usage)
        self._queue = TrialQueue(plan, self.journals, fixed, waiting, self._finalists, strong)
        self._lock = threading.RLock()
        self._check_budget()
        if self.stop_reason and not read_only:
            self._end_measured(waiting)

    def set_trial_costs(self, costs: TrialCosts) -> None:
        """Set estimated trial costs; before this call, trials start in the order in which they were suggested."""
        with self._lock:
            self._queue.set_trial_costs(costs)

    @property
    def concurrency(self) -> Concurrency:
        """The current concurrency."""
        return self._concurrency

    def set_concurrency(self, concurrency: Concurrency) -> None:
        """Change how many trials run at once."""
        with self._lock:
            self._concurrency = concurrency

    # -- what runs next ----------------------------------------------------------------------------------------------

    def next_job(self, trial_id: str) -> Job | None:
        """The job for a new Tune trial; None when nothing is to be started now (see :attr:`is_finished`)."""
        with self._lock, self._abort_on_storage_error():
            self._check_budget()
            if self.stop_reason:
                return None
            key = self._queue.next_trial(self._concurrency.concurrent_trials)
            if key is None:
                return None
            self._assigned_trials[trial_id] = key
            return self._job(key)
        return None

    @property
    def is_finished(self) -> bool:
        """No further trial will start, not even to replace one that may still fail."""
        return bool(self.stop_reason) or (self._queue.is_spent and not self._queue.has_known)

    @property
    def is_full(self) -> bool:
        """The concurrency limit is reached."""
        return len(self._assigned_trials) >= self._concurrency.concurrent_trials

    @property
    def running(self) -> int:
        """Trials that are assigned to a worker group and have not ended."""
        return len(self._assigned_trials)

    @property
    def trials_left(self) -> int:
        """Trials that run or are still to run, if none fails."""
        return self._queue.trials_left

    @property
    def epochs_left(self) -> float | None:
        """Epochs of training that the budget leaves, where the sampler pauses trials; else None."""
        decisions = self._queue.freeze_thaw
        return None if decisions is None else decisions.epochs_left

    @property
    def baseline_trials(self) -> dict[str, JournaledTrial]:
        """The journaled runs of the fixed recipes, by baseline name."""
        return self._queue.baseline_trials

    @property
    def is_ending(self) -> bool:
        """A worker group has nothing left to do while others still run, or all will end within ``SOON_S``."""
        if self.stop_reason or self._queue.has_known or self._queue.has_finalists or not self._assigned_trials:
            return False
        unasked = self._queue.unasked
        if not unasked and not self.is_full:
            return True
        left = self.seconds_left() if unasked <= self._concurrency.concurrent_trials else None
        return left is not None and left <= SOON_S

    def _recover_running_trials(self) -> list[TrialKey]:
        """Trials to resume; those whose verdict was journaled but not acted on are ended first."""
        keys = []
        for study in (BASELINES, SEARCH):
            for trial in self.journals[study].running():
                last = trial.last
                if last is not None and not last.go_on:
                    key = TrialKey(study, trial.number)
                    self._finish(key, self._outcome_of_stop(key))
                else:
                    keys.append(TrialKey(study, trial.number))
        return keys

    def _end_measured(self, waiting: Iterable[TrialKey]) -> None:
        """Trials of a killed driver that the budget does not let go on count by the checkpoints that they have."""
        for key in waiting:
            trial = self.journals[key.study].get(key.number)
            # One that was evaluated to its end has a result, which it tells when it is resumed.
            is_whole = len(trial.evaluations) == planned_evaluations(trial, self.plan)
            if key.study == SEARCH and trial.evaluations and not is_whole:
                self._finish(key, self._outcome_of_stop(key))

    def seconds_left(self) -> float | None:
        """Estimated seconds until the search ends; None before a trial has been evaluated."""
        with self._lock:
            left = self._queue.seconds_left(self._concurrency.concurrent_trials)
        hours = self.plan.budget.hours
        return left if left is None or hours is None else min(left, max(0.0, 3600 * hours - self.usage.seconds))

    def _job(self, key: TrialKey) -> Job:
        trial = self.journals[key.study].get(key.number)
        last = trial.last
        # The best checkpoint stays, whatever the others score: of a trial that goes on, and of the strong recipe.
        has_bar = key.study == SEARCH and trial.stopped is None and trial.label is None
        return Job(
            study=key.study,
            number=key.number,
            decided=last.step if last is not None else 0,
            seed=trial_seed(self.plan.training.seed, key.number if key.study == SEARCH else -1),
            recipe=recipe_of(trial, self.plan),
            directory=self._directory(key),
            bar=self._retention.bar if has_bar else None,
            may_be_stopped=key.study == SEARCH and self.plan.ranks_stopped_trials,
            resume_pays=self._resume_pays(key),
        )

    def _resume_pays(self, key: TrialKey) -> float:
        # A trial that may be paused at any evaluation goes on from there.
        may_pause = key.study == SEARCH and pauses_trials(self.plan)
        return 0.0 if may_pause else float(Job.model_fields["resume_pays"].default)

    def _directory(self, key: TrialKey) -> str:
        """Checkpoint folder of a trial, or its URI."""
        name = trial_dir_name(key.number) if key.study == SEARCH else f"baseline-{key.number}"
        return self._run.child(CHECKPOINTS, name).address

    def has_checkpoint(self, checkpoint: str | None, number: int) -> bool:
        """Whether a checkpoint that a trial reported has been kept, from memory: the store is not queried."""
        if checkpoint is None:
            return False
        folder = open_store(checkpoint).folder
        return self._retention.has_checkpoint(number) if folder is None else folder.is_dir()

    def delete_orphaned_checkpoints(self) -> list[int]:
        """See :meth:`CheckpointRetention.delete_orphaned_checkpoints`; call before the first trial starts."""
        lost = self._retention.delete_orphaned_checkpoints()
        if lost:
            self.journals[SEARCH].note(LOST, sorted({*self.lost_trials, *lost}))
        return lost

    @property
    def lost_trials(self) -> list[int]:
        """Numbers of trials whose results were lost with a newer study; other trials may have them now."""
        return list(self.journals[SEARCH].read_note(LOST, []))

    # -- what continues ----------------------------------------------------------------------------------------------

    def evaluation(self, trial_id: str, report: EvaluationReport) -> bool:
        """Judge and journal one evaluation; True when the trial continues."""
        with self._lock, self._abort_on_storage_error():
            # `trial_ended` gets the same report and fails a trial without a value.
            go_on = self._judge(self._assigned_trials[trial_id], report)
            self._check_budget()
            return go_on and self.stop_reason is None
        return False

    def _judge(
        self,
        key: TrialKey,
        report: EvaluationReport,
        end: Callable[[JournaledEvaluation], Outcome] | None = None,
    ) -> bool:
        """Ask the pruner about an evaluation and journal its verdict; True when the trial continues.

        end: outcome of the trial given the verdict, where this was its last evaluation; journaled together with it.
        """
        value = self._outcomes.quality(report)
        if value is None:
            if end is not None:
                self._finish(key, self._outcomes.of_unmeasured(report))
            return False
        self.usage.trained((key.study, key.number), report.seconds)
        journal = self.journals[key.study]
        # A trial that trains nothing ends with its one evaluation: pruning must not stop it, nor count it for others.
        # The strong recipe, which has a label, is compared as a whole.
        trial = journal.get(key.number)
        is_prunable = ADAPTATIONS[recipe_of(trial, self.plan).adaptation].trains and trial.label != STRONG
        judge = self._judge_of(key, report, value) if is_prunable and end is None else None
        # At its end nothing is left to save. A pause loses nothing, whatever the rest costs.
        is_spared = end is not None or (judge is None and self._queue.ends_cheaply(key, report))
        go_on = journal.report(key.number, report, value, is_prunable, end, is_spared=is_spared, judge=judge)
        if end is not None:
            self._make_room(key)
        return go_on

    def _judge_of(self, key: TrialKey, report: EvaluationReport, value: float) -> Callable[[], bool] | None:
        """Who says in place of the pruner whether a trial goes on; None where the pruner does."""
        decisions = self._queue.freeze_thaw
        if decisions is None or key.study != SEARCH or self.journals[SEARCH].get(key.number).to_end:
            return None
        return lambda: decisions.goes_on(key.number, report, value)

    def trial_ended(self, trial_id: str, event: TrialEvent | None, error: bool) -> None:
        """A trial ended after ``event``, its last; None where it reported nothing. error: its actor died.

        Idempotent, since Tune repeats the call when it fails.
        """
        with self._lock, self._abort_on_storage_error():
            key = self._assigned_trials.get(trial_id)
            if key is None or self.fatal is not None:
                return
            if error or event is None:
                self._finish(key, self._outcome_without_event(error))
            elif isinstance(event, EvaluationReport):
                self._finish(key, self._outcome_of_stopped(key, event))
            elif isinstance(event, TrialCompleted):
                self._complete(key, event)
            elif event.is_fatal:  # it stays running in the journal, and the next driver resumes it
                self.fatal = worker_error(event)
                self.stop_reason = self.fatal.message
            else:
                self._finish(key, of_failed(event))
            del self._assigned_trials[trial_id]
            self._check_budget()

    def _outcome_without_event(self, error: bool) -> Outcome:
        if not error and self._concurrency.no_trial_has_devices:
            return Outcome("failed", f"no devices were free for it until the search ended: {self.stop_reason}")
        return ACTOR_DIED

    def _outcome_of_stopped(self, key: TrialKey, report: EvaluationReport) -> Outcome:
        if self._outcomes.quality(report) is None:
            return self._outcomes.of_unmeasured(report)
        return self._outcome_of_stop(key)

    def _outcome_of_stop(self, key: TrialKey) -> Outcome:
        trial = self.journals[key.study].get(key.number)
        best = self._retention.best_checkpoint(trial) if key.study == SEARCH else None
        return self._outcomes.of_stopped(trial.last, self.stop_reason, None if best is None else BestCheckpoint(*best))

    def _complete(self, key: TrialKey, completed: TrialCompleted) -> None:
        self.usage.trained((key.study, key.number), completed.result.seconds)
        outcome = self._after_resume(key, self._outcomes.of_completed(completed, key.study == BASELINES))
        if completed.last is None:
            self._finish(key, outcome)
        else:
            self._judge(key, completed.last, lambda _: outcome)

    def _finish(self, key: TrialKey, outcome: Outcome) -> None:
        self.journals[key.study].finish(key.number, self._after_resume(key, outcome))
        self._make_room(key)

    def _after_resume(self, key: TrialKey, outcome: Outcome) -> Outcome:
        """The outcome. A stopped trial that went on and failed keeps its place, by the best checkpoint that it has."""
        before = self.journals[key.study].get(key.number).stopped
        if before is None or outcome.state != "failed":
            return outcome
        stopped = self._outcome_of_stop(key)
        detail = stopped.detail.model_copy(update={"resume_error": outcome.reason})
        return replace(stopped, reason=f"{before.reason}; going on with it failed: {outcome.reason}", detail=detail)

    def _make_room(self, key: TrialKey) -> None:
        if key.study == SEARCH:
            self._retention.trial_ended(key.number)

    @contextlib.contextmanager
    def _abort_on_storage_error(self) -> Iterator[None]:
        """A decision that cannot be journaled did not happen: the search ends, and a resume starts from the disk."""
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
        except StorageError as error:  # of the store with the checkpoints; verdicts that are journaled stand
            self.fatal = error
            self.stop_reason = error.message

    def finalists_left_stopped(self) -> dict[int, str]:
        """Trials among the best ``search.finish_top`` that were stopped and did not go on, with the reason."""
        with self._lock:
            known = self._finalists.obstacles()
            waiting = self.stop_reason or "the search has not gone on with it"
            return known | {number: waiting for number in self._finalists.numbers()}

    # -- budgets -----------------------------------------------------------------------------------------------------

    def _check_budget(self) -> None:
        self.stop_reason = self.stop_reason or budget_stop_reason(self.plan.budget, self.journals[SEARCH], self.usage)

    @property
    def should_stop_running(self) -> bool:
        """Running trials must end now as well: no later report of theirs would be used."""
        no_devices = self._concurrency.no_trial_has_devices
        ends_all = self.stop_reason is not None and (no_devices or "trials failed" in self.stop_reason)
        return self.fatal is not None or ends_all

    def abort(self, error: FinesearchError) -> None:
        """End the search and its running trials because of an outside error; callable from any thread."""
        with self._lock:
            self.fatal = self.fatal or error
            self.stop_reason = self.stop_reason or error.message

    def tick(self) -> None:
        """Check the budget between events, so that a budget of hours ends a search in which nothing reports."""
        with self._lock, self._abort_on_storage_error():
            self.usage.persist()
            self._check_budget()
