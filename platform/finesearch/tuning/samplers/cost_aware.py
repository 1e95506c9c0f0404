"""Cost-aware search: of several proposals, tries the one with the largest expected improvement per second.

Expected improvement over cost to a power (Snoek, Larochelle and Adams, 2012) that falls to 0 as the budget is used up
(cost cooling: Lee, Perrone, Archambeau and Seeger, 2020), so that cheap configurations are tried first and expensive
ones are still tried in the end.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from optuna.trial import FrozenTrial, TrialState

from finesearch.plan import Scalar
from finesearch.plan.space.random_sampling import RandomTrial
from finesearch.tuning.samplers.sampler_factory import make_sampler
from finesearch.tuning.samplers.windowed_tpe import windowed
from finesearch.tuning.study.journal import Journal
from finesearch.tuning.trial_seed import trial_seed

if TYPE_CHECKING:
    from finesearch.plan import Plan


from collections.abc import Sequence
from math import log
from typing import TYPE_CHECKING

from finesearch.plan import Choice, Parameter, Range, Space

if TYPE_CHECKING:
    from sklearn.ensemble import RandomForestRegressor


from typing import TYPE_CHECKING

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import create_trial

if TYPE_CHECKING:
    from optuna.samplers import BaseSampler


PROPOSED, DRAWN = 8, 32
"""Numbers of candidates: from the sampler, and at random."""


def cost_aware_configuration(
    plan: Plan, journal: Journal, number: int, seconds: Callable[[Mapping[str, Scalar]], float]
) -> dict[str, Scalar] | None:
    """Configuration of trial ``number``; None leaves it to the sampler. The same for the same journal.

    seconds: cost of a configuration.
    """
    trials = journal.study.get_trials(deepcopy=False)
    ended = _ended(trials)
    power = cooled(plan.search.cost_weight, len(ended), plan.search.startup_trials, plan.budget.trials)
    if power <= 0.0 or len(ended) < max(2, plan.search.startup_trials):
        return None
    maximize = journal.directions[0].maximize
    trials = windowed(trials, maximize)
    ended = _ended(trials)
    seed = trial_seed(plan.search.seed, number)
    study, sampler = journal.view(), make_sampler(plan, number, concurrent_trials=1)
    candidates = [plan.space.suggest(SamplerDraw(study, sampler)) for _ in range(PROPOSED)]
    chance = RandomTrial(seed)
    candidates += [plan.space.suggest(chance) for _ in range(DRAWN)]
    sign = 1.0 if maximize else -1.0
    tried = [journal.get(trial.number).parameters for trial in ended]
    values = [sign * trial.values[0] for trial in ended]
    # A running configuration counts as bad meanwhile, so that it is not tried twice.
    running = [journal.get(trial.number).parameters for trial in trials if trial.state is TrialState.RUNNING]
    tried, values = tried + running, values + [min(values)] * len(running)
    gain = expected_improvement(plan.space, tried, values, candidates, seed)
    cost = np.array([seconds(candidate) for candidate in candidates])
    return candidates[int(np.argmax(np.log(gain) - power * np.log(cost)))]


def cooled(weight: float, ended: int, startup_trials: int, trials: int) -> float:
    """The exponent of cost after ``ended`` of ``trials``: ``weight`` up to the startup trials, 0 at the end.

    >>> [round(cooled(1.0, ended, startup_trials=10, trials=30), 2) for ended in (5, 10, 20, 30, 31)]
    [1.0, 1.0, 0.5, 0.0, 0.0]
    """
    left = (trials - ended) / max(1, trials - startup_trials)
    return weight * max(0.0, min(1.0, left))


def _ended(trials: list[FrozenTrial]) -> list[FrozenTrial]:
    return [trial for trial in trials if trial.state in (TrialState.COMPLETE, TrialState.PRUNED) and trial.values]


TREES = 48
INACTIVE = -1.0
SMALLEST_GAIN = 1e-12


def expected_improvement(
    space: Space,
    tried: Sequence[Mapping[str, Scalar]],
    values: Sequence[float],
    candidates: Sequence[Mapping[str, Scalar]],
    seed: int,
) -> np.ndarray:
    """Expected improvement (n,) of each candidate over the largest of ``values``, in their unit; above 0.

    values: results of the configurations ``tried``, larger is better.
    """
    from scipy.stats import norm
    from sklearn.ensemble import RandomForestRegressor

    observed = np.asarray(values, dtype=np.float64)
    forest: RandomForestRegressor = RandomForestRegressor(
        n_estimators=TREES, min_samples_leaf=2, max_features=0.7, random_state=seed, n_jobs=1
    )
    # The lowest values only say "not here"; unclipped, they would hide the differences that count.
    clipped = np.maximum(observed, np.quantile(observed, 0.2))
    forest.fit(np.stack([encode(space, each) for each in tried]), clipped)
    points = np.stack([encode(space, each) for each in candidates])
    each_tree = np.stack([tree.predict(points) for tree in forest.estimators_])
    mean, spread = each_tree.mean(axis=0), each_tree.std(axis=0)
    spread = np.maximum(spread, 1e-3 * max(float(np.ptp(clipped)), 1e-9))
    gain = mean - observed.max()
    improvement: np.ndarray = gain * norm.cdf(gain / spread) + spread * norm.pdf(gain / spread)
    positive: np.ndarray = np.maximum(improvement, SMALLEST_GAIN * spread)
    return positive


def encode(space: Space, configuration: Mapping[str, Scalar]) -> np.ndarray:
    """Numbers (k,) in [0, 1] for a configuration; a parameter that is not active is -1."""
    return np.concatenate([_encoded(parameter, configuration) for parameter in space.parameters])


def _encoded(parameter: Parameter, configuration: Mapping[str, Scalar]) -> np.ndarray:
    domain, is_active = parameter.domain, parameter.name in configuration
    value = configuration.get(parameter.name)
    if isinstance(domain, Choice):
        places = [float(type(each) is type(value) and each == value) for each in domain.values]
        return np.array(places if is_active else [INACTIVE] * len(domain.values))
    assert isinstance(domain, Range)
    if not is_active:
        return np.array([INACTIVE])
    assert isinstance(value, int | float)
    low, high, at = (
        (log(x) for x in (domain.low, domain.high, value)) if domain.log else (domain.low, domain.high, value)
    )
    return np.array([(at - low) / (high - low) if high > low else 0.0])


class SamplerDraw:
    """Draws what ``sampler`` would suggest next for ``study``, without changing it; each instance is a new draw."""

    def __init__(self, study: optuna.Study, sampler: BaseSampler) -> None:
        self._study, self._sampler = study, sampler
        self._trial = create_trial(state=TrialState.RUNNING)
        space = sampler.infer_relative_search_space(study, self._trial)
        self._relative = sampler.sample_relative(study, self._trial, space)

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        return self._suggest(name, CategoricalDistribution(choices))

    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False
    ) -> float:
        return float(self._suggest(name, FloatDistribution(low, high, log=log, step=step)))

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1, log: bool = False) -> int:
        return int(self._suggest(name, IntDistribution(low, high, log=log, step=step)))

    def _suggest(self, name: str, distribution: BaseDistribution) -> Any:
        if name in self._relative:
            return self._relative[name]
        if distribution.single():
            return distribution.to_external_repr(
                0.0 if isinstance(distribution, CategoricalDistribution) else distribution.low  # type: ignore[attr-defined]
            )
        return self._sampler.sample_independent(self._study, self._trial, name, distribution)
