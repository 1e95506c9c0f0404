"""Which checkpoints stay on disk: those that can still be ranked, and those of running trials."""

from __future__ import annotations

import shutil
from pathlib import Path

from optuna.trial import FrozenTrial, TrialState

from finesearch.plan import Plan
from finesearch.tuning.journal import Journal


class Retention:
    """Deletes what can no longer enter the report, so that disk use does not grow with the number of trials.

    With one objective the best ``report.top`` complete trials are kept; with several, the Pareto front besides.
    """

    def __init__(self, plan: Plan, journal: Journal, folder: Path) -> None:
        self._plan, self._journal, self._checkpoints = plan, journal, folder / "checkpoints"
        self._present = {int(path.name[6:]) for path in self._checkpoints.glob("trial-*") if path.name[6:].isdigit()}

    def trial_ended(self, number: int) -> None:
        """Make room after trial ``number`` ended."""
        self._present.add(number)
        kept = {trial.number for trial in rankable(self._journal, self._plan.report.top)}
        kept |= {trial.number for trial in self._journal.running()}
        for gone in self._present - kept:
            shutil.rmtree(self._checkpoints / f"trial-{gone:04d}", ignore_errors=True)
        self._present &= kept


def bar(journal: Journal, top: int) -> float | None:
    """What a trial must come up to for it ever to be ranked, equal included; None where nothing rules one out yet.

    It only rises: no complete trial is lost. With several objectives there is none, since the front has no last place.
    """
    if len(journal.directions) > 1:
        return None
    ranked = rankable(journal, top)
    return float(ranked[-1].values[0]) if len(ranked) == top else None


def rankable(journal: Journal, top: int) -> list[FrozenTrial]:
    """Complete trials that the report may rank, best first by the first objective; ties go to fewer trainable
    parameters, then to the earlier trial. The Pareto front is always among them."""
    maximize = journal.directions[0].maximize
    complete = [trial for trial in journal.trials() if trial.state is TrialState.COMPLETE]

    def order(trial: FrozenTrial) -> tuple[float, int, int]:
        trainable = trial.user_attrs["outcome"].get("trainable_parameters") or 0
        return (-trial.values[0] if maximize else trial.values[0], trainable, trial.number)

    ranked = sorted(complete, key=order)
    front = {t.number for t in journal.study.best_trials} if len(journal.directions) > 1 and complete else set()
    return [trial for place, trial in enumerate(ranked) if place < top or trial.number in front]
