"""Checkpoint retention: keeps checkpoints that can still be ranked and those of running trials."""

from __future__ import annotations

import bisect
import re

from finesearch.errors import StorageError
from finesearch.plan import Plan
from finesearch.storage.store import Store
from finesearch.tuning.study.journal import Journal
from finesearch.tuning.study.journaled_trial import JournaledTrial

Order = tuple[float, int, int]
CHECKPOINTS = "checkpoints"
"""Folder of a run with one folder for each trial."""
TRIAL = re.compile(r"trial-(\d+)")


class CheckpointRetention:
    """Deletes checkpoints that can no longer enter the report, so disk use does not grow with the number of trials.

    With one objective the best ``report.top`` complete trials are kept; with several, the Pareto front as well.
    keep_first: the first trial is a baseline too, and is kept whatever its score.
    """

    def __init__(self, plan: Plan, journal: Journal, run: Store, keep_first: bool = False) -> None:
        self._kept_always = {0} if keep_first else set()
        self._plan, self._journal, self._folders = plan, journal, run.child(CHECKPOINTS)
        self._present = {int(found[1]) for found in map(TRIAL.fullmatch, self._folders.folders()) if found}
        # Kept in order, so that the end of a trial costs the same after thousands of others.
        self._best = [place(journal, trial) for trial in rankable_trials(journal, plan.report.top)]

    def trial_ended(self, number: int) -> None:
        """Delete what trial ``number`` made obsolete by its end."""
        self._present.add(number)
        kept = self._rankable_after(number) | self._journal.running_numbers() | self._kept_always
        # What could not be deleted is tried again when the next trial ends.
        self._present -= {gone for gone in self._present - kept if self._delete(gone)}

    def delete_orphaned_checkpoints(self) -> None:
        """Delete checkpoints of trials that the journal does not know: it was restored from an older backup, and will
        give their numbers to others."""
        unknown = {number for number in self._present if number >= len(self._journal.trials())}
        self._present -= {number for number in unknown if self._delete(number)}

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

        It only rises, since complete trials stay. With several objectives there is none, since the front has no last
        place.
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
        if trial.state == "complete":
            its_place = place(self._journal, trial)
            if its_place not in self._best:
                bisect.insort(self._best, its_place)
                del self._best[top:]
        return {number for _, _, number in self._best}


def trial_dir_name(number: int) -> str:
    """Name of the folder of a trial's checkpoints."""
    return f"trial-{number:04d}"


def place(journal: Journal, trial: JournaledTrial) -> Order:
    """Sort key of complete trials, smallest first: the first objective, then fewer trainable parameters, then the
    earlier trial."""
    assert trial.values is not None, "the trial is complete"
    value, trainable = trial.values[0], trial.detail.trainable_parameters or 0
    return (-value if journal.directions[0].maximize else value, trainable, trial.number)


def rankable_trials(journal: Journal, top: int) -> list[JournaledTrial]:
    """Complete trials that the report may rank, best first (see :func:`place`). The Pareto front is always among
    them."""
    complete = [trial for trial in journal.trials() if trial.state == "complete"]
    ranked = sorted(complete, key=lambda trial: place(journal, trial))
    front = set(journal.pareto_front()) if len(journal.directions) > 1 else set()
    return [trial for position, trial in enumerate(ranked) if position < top or trial.number in front]
