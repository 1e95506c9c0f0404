"""Checkpoint retention: keeps checkpoints that can still be ranked and those of running trials."""

from __future__ import annotations

import bisect
import contextlib
import re

from finesearch.errors import StorageError
from finesearch.plan import Plan
from finesearch.storage.open_store import open_store
from finesearch.storage.store import Store
from finesearch.training.trial_types import Evaluation
from finesearch.tuning.study.journal import Journal
from finesearch.tuning.study.journaled_trial import JournaledTrial
from finesearch.tuning.study.paused_trials import numbers_with_state, pauses_trials
from finesearch.tuning.study.trial_checkpoints import TrialCheckpoints

Order = tuple[float, int, int]
CHECKPOINTS = "checkpoints"
"""Folder of a run with one folder for each trial."""
TRIAL = re.compile(r"trial-(\d+)")


class CheckpointRetention:
    """Deletes checkpoints that can no longer enter the report, so disk use does not grow with the number of trials.

    With one objective the best ``report.top`` trials are kept, stopped ones included; with several, the best complete
    ones and the Pareto front. A stopped trial keeps the state to go on from only while it is among the best
    ``search.finish_top``, or while ``freeze_thaw`` may resume it (see ``paused_trials.py``). keep_first: the first
    trial is a baseline too, and is kept whatever its score.
    """

    def __init__(self, plan: Plan, journal: Journal, run: Store, keep_first: bool = False) -> None:
        self._kept_always = {0} if keep_first else set()
        self._plan, self._journal, self._folders = plan, journal, run.child(CHECKPOINTS)
        self._pauses = pauses_trials(plan)
        self._present = {int(found[1]) for found in map(TRIAL.fullmatch, self._folders.folders()) if found}
        # Kept in order, so that the end of a trial costs the same after thousands of others.
        self._best = [rank_key(journal, trial) for trial in rankable_trials(journal, plan.report.top)]
        self._final: set[int] = set()  # stopped trials that will not go on, and hold no state to do so

    def trial_ended(self, number: int) -> None:
        """Delete what trial ``number`` made obsolete by its end."""
        self._present.add(number)
        best = numbers_with_state(self._journal) if self._pauses else set()
        paused = {each for each in best if self._journal.get(each).state == "pruned"}
        kept = self._rankable_after(number) | self._journal.running_numbers() | self._kept_always | paused
        # What could not be deleted is tried again when the next trial ends.
        self._present -= {gone for gone in self._present - kept if self._delete(gone)}
        if number in paused:
            self._keep_newest_state(self._journal.get(number))
        for _, _, stopped in self._best[self._plan.search.finish_top :]:
            if stopped not in self._final | paused and self._drop_resume_state(self._journal.get(stopped)):
                self._final.add(stopped)

    def best_checkpoint(self, trial: JournaledTrial) -> tuple[Evaluation, str] | None:
        """The best evaluation of a trial that has a checkpoint, as that tells it, and the checkpoint's address; None
        where it has none that may be ranked. The store is queried, so this is for a trial that is being stopped.

        With several objectives there is none: a stopped trial does not have all of them.
        """
        if len(self._journal.directions) > 1 or not trial.evaluations:
            return None
        sign = 1.0 if self._journal.directions[0].maximize else -1.0
        by_value = sorted(trial.evaluations.values(), key=lambda each: (-sign * each.value, each.step))
        is_low = self.bar is not None and sign * by_value[0].value < sign * self.bar
        if is_low and trial.stopped is None:
            return None
        checkpoints = self._checkpoints(trial.number)
        found = checkpoints.first_of(evaluation.step for evaluation in by_value)
        if found is None:
            return None
        step, name = found
        return checkpoints.evaluation(name) or trial.evaluations[step], checkpoints.address(name)

    def _keep_newest_state(self, trial: JournaledTrial) -> None:
        """Reduce a paused trial's folder to the checkpoint that is ranked and the newest state to go on from."""
        if trial.state != "pruned":
            return
        ranked = None if trial.detail.checkpoint is None else open_store(trial.detail.checkpoint).name
        # Where the store does not answer, only more is kept than is needed.
        with contextlib.suppress(StorageError):
            self._checkpoints(trial.number).keep_newest_state(ranked)

    def _drop_resume_state(self, trial: JournaledTrial) -> bool:
        """Reduce a stopped trial's folder to the checkpoint that is ranked; False where that is to be tried again."""
        if trial.state != "pruned" or trial.detail.checkpoint is None:
            return trial.is_finished
        try:
            self._checkpoints(trial.number).keep_only(open_store(trial.detail.checkpoint).name)
        except StorageError:
            return False
        return True

    def _checkpoints(self, number: int) -> TrialCheckpoints:
        return TrialCheckpoints(self._folders.child(trial_dir_name(number)))

    def delete_orphaned_checkpoints(self) -> list[int]:
        """Delete checkpoints of trials that the journal does not know: it was restored from an older backup, and will
        give their numbers to others. Returns the numbers."""
        unknown = {number for number in self._present if number >= len(self._journal.trials())}
        self._present -= {number for number in unknown if self._delete(number)}
        return sorted(unknown)

    def _delete(self, number: int) -> bool:
        """Delete a trial's folder; False where an object store refused or did not answer."""
        try:
            self._folders.child(trial_dir_name(number)).delete()
        except StorageError:
            return False
        return True

    def has_checkpoint(self, number: int) -> bool:
        """Whether a trial's checkpoint has been kept."""
        return number in self._present

    @property
    def bar(self) -> float | None:
        """The value that a trial must reach (inclusive) to be ranked; None where any value may be.

        It only rises, since trials that have ended stay. With several objectives there is none, since the front has
        no last place.
        """
        if len(self._journal.directions) > 1 or len(self._best) < self._plan.report.top:
            return None
        value = self._best[-1][0]
        return -value if self._journal.directions[0].maximize else value

    def _rankable_after(self, number: int) -> set[int]:
        top = self._plan.report.top
        if len(self._journal.directions) > 1:
            return {trial.number for trial in rankable_trials(self._journal, top)}
        trial = self._journal.get(number)
        if trial.rankable is not None:
            # A trial that went on may have a better place than before.
            self._best = [key for key in self._best if key[2] != number]
            bisect.insort(self._best, rank_key(self._journal, trial))
            del self._best[top:]
        return {number for _, _, number in self._best}


def trial_dir_name(number: int) -> str:
    """Name of the folder of a trial's checkpoints."""
    return f"trial-{number:04d}"


def rank_key(journal: Journal, trial: JournaledTrial) -> Order:
    """Sort key of rankable trials, smallest first: the first objective, then fewer trainable parameters, then the
    earlier trial. Of a stopped trial the best evaluation with a checkpoint counts."""
    ended = trial.rankable
    assert ended is not None, f"trial {trial.number} cannot be ranked"
    value, trainable = quality_of(journal, trial), ended.detail.trainable_parameters or 0
    return (-value if journal.directions[0].maximize else value, trainable, trial.number)


def quality_of(journal: Journal, trial: JournaledTrial) -> float:
    """The first objective of a rankable trial."""
    ended = trial.rankable
    assert ended is not None, f"trial {trial.number} cannot be ranked"
    if trial.state == "complete":
        assert trial.values is not None, "the trial is complete"
        return trial.values[0]
    assert ended.detail.best is not None, "the trial left a checkpoint"
    return ended.detail.best.metrics[journal.directions[0].name]


def rankable_trials(journal: Journal, top: int) -> list[JournaledTrial]:
    """Trials that the report may rank, best first (see :func:`rank_key`): complete ones, and stopped ones that left a
    checkpoint. The Pareto front is always among them."""
    ranked = sorted(
        (trial for trial in journal.trials() if trial.rankable is not None), key=lambda trial: rank_key(journal, trial)
    )
    front = set(journal.pareto_front()) if len(journal.directions) > 1 else set()
    return [trial for position, trial in enumerate(ranked) if position < top or trial.number in front]
