"""Which checkpoints stay on disk: those that can still be ranked, and those of running trials."""

from __future__ import annotations

import bisect
import shutil
from pathlib import Path

from optuna.trial import FrozenTrial, TrialState

from finesearch.plan import Plan
from finesearch.tuning.journal import Journal

Place = tuple[float, int, int]


class Retention:
    """Deletes what can no longer enter the report, so that disk use does not grow with the number of trials.

    With one objective the best ``report.top`` complete trials are kept; with several, the Pareto front besides.
    """

    def __init__(self, plan: Plan, journal: Journal, folder: Path) -> None:
        self._plan, self._journal, self._checkpoints = plan, journal, folder / "checkpoints"
        self._present = {int(path.name[6:]) for path in self._checkpoints.glob("trial-*") if path.name[6:].isdigit()}
        # Kept in order, so that the end of a trial costs the same after thousands of others.
        self._best = [place(journal, trial) for trial in rankable(journal, plan.report.top)]

    def trial_ended(self, number: int) -> None:
        """Make room after trial ``number`` ended."""
        self._present.add(number)
        kept = self._rankable_after(number) | {trial.number for trial in self._journal.running()}
        for gone in self._present - kept:
            shutil.rmtree(self._checkpoints / f"trial-{gone:04d}", ignore_errors=True)
        self._present &= kept

    @property
    def bar(self) -> float | None:
        """What a trial must come up to for it ever to be ranked, equal included; None where nothing rules one out yet.

        It only rises: no complete trial is lost. With several objectives there is none, since the front has no last
        place.
        """
        if len(self._journal.directions) > 1 or len(self._best) < self._plan.report.top:
            return None
        value = self._best[-1][0]
        return -value if self._journal.directions[0].maximize else value

    def _rankable_after(self, number: int) -> set[int]:
        top = self._plan.report.top
        if len(self._journal.directions) > 1:
            return {trial.number for trial in rankable(self._journal, top)}
        trial = self._journal.get(number)
        if trial.state is TrialState.COMPLETE:
            its_place = place(self._journal, trial)
            if its_place not in self._best:
                bisect.insort(self._best, its_place)
                del self._best[top:]
        return {number for _, _, number in self._best}


def place(journal: Journal, trial: FrozenTrial) -> Place:
    """What complete trials are ordered by, smallest first: the first objective, then fewer trainable parameters, then
    the earlier trial."""
    trainable = trial.user_attrs["outcome"].get("trainable_parameters") or 0
    return (-trial.values[0] if journal.directions[0].maximize else trial.values[0], trainable, trial.number)


def rankable(journal: Journal, top: int) -> list[FrozenTrial]:
    """Complete trials that the report may rank, best first (see :func:`place`). The Pareto front is always among
    them."""
    complete = [trial for trial in journal.trials() if trial.state is TrialState.COMPLETE]
    ranked = sorted(complete, key=lambda trial: place(journal, trial))
    front = {t.number for t in journal.study.best_trials} if len(journal.directions) > 1 and complete else set()
    return [trial for position, trial in enumerate(ranked) if position < top or trial.number in front]
