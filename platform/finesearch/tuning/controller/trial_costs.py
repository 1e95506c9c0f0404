"""What trials cost, estimated beforehand and set right by those that have run; order and time left follow from it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING

from finesearch.plan import ADAPTATIONS, Plan, Recipe, Scalar
from finesearch.plan.space.random_sampling import sample_recipes
from finesearch.training.cost_model.cost_model import CostModel
from finesearch.tuning.study.trial_attributes import last_evaluation

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

    from finesearch.training.cost_model.workload import Workload

ENOUGH_OF_A_FAMILY = 3
SAMPLE = 32


@dataclass(frozen=True)
class TrialProgress:
    """One trial so far: how it adapts, its seconds as they were estimated for the whole of it, the share of its epochs
    that it has trained, and the seconds that this took."""

    adaptation: str
    estimated: float
    share: float = 0.0
    seconds: float = 0.0


@dataclass(frozen=True)
class Calibration:
    """Measured seconds over estimated ones: the median of all trials, and of each adaptation that ran often enough.

    Medians, because one trial that waited for a disk must not count.
    """

    overall: float
    families: Mapping[str, float]

    def of(self, adaptation: str) -> float:
        return self.families.get(adaptation, self.overall)


class TrialCosts:
    """Seconds of trials of one plan; ``are_kept``: outputs of frozen layers are computed once, not by each trial."""

    def __init__(self, plan: Plan, workload: Workload, are_kept: bool = False) -> None:
        self._plan = plan
        self._model = CostModel(workload, plan.training)
        self._are_kept = are_kept
        self._drawn = [self._estimate(recipe) for recipe in sample_recipes(plan.space, plan.training, SAMPLE)]

    def run_of(self, recipe: Recipe, trial: FrozenTrial) -> TrialProgress:
        """What the journal says of a trial."""
        estimated, last = self._estimate(recipe), last_evaluation(trial)
        if last is None:
            return TrialProgress(recipe.adaptation, estimated)
        # What trains nothing is over with its one evaluation, at epoch 0.
        share = min(1.0, last.epoch / recipe.epochs) if ADAPTATIONS[recipe.adaptation].trains else 1.0
        return TrialProgress(recipe.adaptation, estimated, share, last.seconds)

    def seconds(self, parameters: Mapping[str, Scalar], calibration: Calibration | None) -> float:
        """Seconds of a configuration; without a calibration only ratios mean anything."""
        recipe = self._plan.space.recipe(parameters, self._plan.training)
        return self._estimate(recipe) * (calibration.of(recipe.adaptation) if calibration else 1.0)

    def whole(self, run: TrialProgress, calibration: Calibration | None) -> float:
        """Seconds of a trial that is run to its end."""
        return run.estimated * (calibration.of(run.adaptation) if calibration else 1.0)

    def remaining(self, run: TrialProgress, calibration: Calibration | None) -> float:
        """Seconds that a trial has still to run."""
        return self.whole(run, calibration) * (1.0 - run.share)

    def calibrate(self, runs: Iterable[TrialProgress]) -> Calibration | None:
        """What trials that have run say; None where none has come to an evaluation."""
        found: dict[str, list[float]] = {}
        for run in runs:
            if run.share > 0.0 and run.seconds > 0.0:
                found.setdefault(run.adaptation, []).append(run.seconds / (run.estimated * run.share))
        if not found:
            return None
        families = {name: median(ratios) for name, ratios in found.items() if len(ratios) >= ENOUGH_OF_A_FAMILY}
        return Calibration(median(ratio for ratios in found.values() for ratio in ratios), families)

    def left(
        self, ended: list[TrialProgress], under_way: list[TrialProgress], unasked: int, concurrent_trials: int
    ) -> float | None:
        """Seconds until ``unasked`` more trials and those under way are over; None before anything was measured."""
        calibration = self.calibrate([*ended, *under_way])
        if calibration is None:
            return None
        # What is asked next looks like what was asked last; how early trials are stopped, too, goes on.
        recent = [self.whole(run, calibration) for run in [*ended, *under_way][-SAMPLE:]]
        drawn = [seconds * calibration.overall for seconds in self._drawn[len(recent) :]]
        mean = sum([*recent, *drawn]) / len([*recent, *drawn])
        ran = sum(run.share for run in ended) / len(ended) if ended else 1.0
        rest = [self.remaining(run, calibration) * ran for run in under_way]
        return max([(sum(rest) + unasked * mean * ran) / concurrent_trials, *rest])

    def _estimate(self, recipe: Recipe) -> float:
        return self._model.seconds(recipe, cached=self._are_kept)
