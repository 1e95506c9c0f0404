"""Cost of trials, estimated before they run and calibrated by those that ran; gives start order and time left."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from operator import mul
from statistics import mean, median
from typing import TYPE_CHECKING

from finesearch.plan import ADAPTATIONS, Plan, Recipe, Scalar
from finesearch.plan.space.random_sampling import sample_recipes
from finesearch.training.cost_model.cost_model import CostModel

if TYPE_CHECKING:
    from finesearch.training.cost_model.workload import Workload
    from finesearch.training.trial_types import Evaluation

ENOUGH_OF_A_FAMILY = 3
SAMPLE = 32


@dataclass(frozen=True)
class TrialProgress:
    """Progress of one trial: its adaptation, estimated seconds of the whole trial, share of its epochs that is
    trained, and the seconds that this took."""

    adaptation: str
    estimated: float
    share: float = 0.0
    seconds: float = 0.0


@dataclass(frozen=True)
class Calibration:
    """Measured over estimated seconds: the median of all trials, and of each adaptation that ran often enough.

    Medians, so that one trial that waited for a disk does not count.
    """

    overall: float
    families: Mapping[str, float]

    def of(self, adaptation: str) -> float:
        return self.families.get(adaptation, self.overall)


class TrialCosts:
    """Seconds of one plan's trials; ``are_kept``: outputs of frozen layers are computed once, not by each trial."""

    def __init__(self, plan: Plan, workload: Workload, are_kept: bool = False) -> None:
        self._plan = plan
        self._model = CostModel(workload, plan.training)
        self._are_kept = are_kept
        recipes = sample_recipes(plan.space, plan.training, SAMPLE)
        self._drawn = [self._estimate(recipe) for recipe in recipes]
        shares = [self._first_share(recipe) for recipe in recipes]
        self.first_evaluation = mean(map(mul, self._drawn, shares))
        """Estimated seconds of training up to the first evaluation of a trial, the mean over the space."""

    def run_of(self, recipe: Recipe, last: Evaluation | None) -> TrialProgress:
        """Progress of a trial after its ``last`` evaluation."""
        estimated = self._estimate(recipe)
        if last is None:
            return TrialProgress(recipe.adaptation, estimated)
        # A trial that trains nothing ends with its one evaluation, at epoch 0.
        share = min(1.0, last.epoch / recipe.epochs) if ADAPTATIONS[recipe.adaptation].trains else 1.0
        return TrialProgress(recipe.adaptation, estimated, share, last.seconds)

    def seconds(self, parameters: Mapping[str, Scalar], calibration: Calibration | None) -> float:
        """Seconds of a configuration; without a calibration only ratios mean anything."""
        recipe = self._plan.space.recipe(parameters, self._plan.training)
        return self._estimate(recipe) * (calibration.of(recipe.adaptation) if calibration else 1.0)

    def whole(self, run: TrialProgress, calibration: Calibration | None) -> float:
        """Seconds of a complete trial."""
        return run.estimated * (calibration.of(run.adaptation) if calibration else 1.0)

    def remaining(self, run: TrialProgress, calibration: Calibration | None) -> float:
        """Remaining seconds of a trial."""
        return self.whole(run, calibration) * (1.0 - run.share)

    def calibrate(self, runs: Iterable[TrialProgress]) -> Calibration | None:
        """The calibration from trials that ran; None where none was evaluated."""
        found: dict[str, list[float]] = {}
        for run in runs:
            if run.share > 0.0 and run.seconds > 0.0:
                found.setdefault(run.adaptation, []).append(run.seconds / (run.estimated * run.share))
        if not found:
            return None
        families = {name: median(ratios) for name, ratios in found.items() if len(ratios) >= ENOUGH_OF_A_FAMILY}
        return Calibration(median(ratio for ratios in found.values() for ratio in ratios), families)

    def left(
        self,
        ended: list[TrialProgress],
        under_way: list[TrialProgress],
        unasked: int,
        concurrent_trials: int,
        are_whole: bool = False,
    ) -> float | None:
        """Seconds until ``unasked`` more trials and the running ones end; None before anything was measured.

        are_whole: the trials to come are trained to their end, though those before were not.
        """
        calibration = self.calibrate([*ended, *under_way])
        if calibration is None:
            return None
        # Assume that the next trials resemble the last ones, and are stopped as early.
        recent = [self.whole(run, calibration) for run in [*ended, *under_way][-SAMPLE:]]
        drawn = [seconds * calibration.overall for seconds in self._drawn[len(recent) :]]
        mean = sum([*recent, *drawn]) / len([*recent, *drawn])
        ran = sum(run.share for run in ended) / len(ended) if ended and not are_whole else 1.0
        rest = [self.remaining(run, calibration) * ran for run in under_way]
        return max([(sum(rest) + unasked * mean * ran) / concurrent_trials, *rest])

    def _first_share(self, recipe: Recipe) -> float:
        """Share of a trial that is trained before its first evaluation."""
        if not ADAPTATIONS[recipe.adaptation].trains:
            return 1.0
        return 1.0 / (recipe.epochs * self._plan.training.evaluations_per_epoch)

    def _estimate(self, recipe: Recipe) -> float:
        return self._model.seconds(recipe, cached=self._are_kept)
