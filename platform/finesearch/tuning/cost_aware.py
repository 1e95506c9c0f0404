"""Weighs expected gain by cost: of several proposals, the one that promises most for a second is tried next.

Expected improvement over cost to a power (Snoek, Larochelle and Adams, 2012) that falls to 0 as the budget is used up
(cost cooling: Lee, Perrone, Archambeau and Seeger, 2020), so that cheap configurations are tried first and dear ones
are not left out in the end.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from optuna.trial import FrozenTrial, TrialState

from finesearch.plan import Scalar
from finesearch.plan.random_draw import RandomDraw
from finesearch.tuning.expected_gain import expected_gain
from finesearch.tuning.journal import ASKED, Journal
from finesearch.tuning.sampler_draw import SamplerDraw
from finesearch.tuning.samplers import make_sampler, trial_seed
from finesearch.tuning.windowed_tpe import windowed

if TYPE_CHECKING:
    from finesearch.plan import Plan

PROPOSED, DRAWN = 8, 32
"""Configurations to choose from: so many of the sampler's, so many at random."""


def weighed_configuration(
    plan: Plan, journal: Journal, number: int, seconds: Callable[[Mapping[str, Scalar]], float]
) -> dict[str, Scalar] | None:
    """What trial ``number`` is to try; None leaves it to the sampler. The same for the same journal.

    seconds: what a configuration costs.
    """
    trials = journal.trials()
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
    chance = RandomDraw(seed)
    candidates += [plan.space.suggest(chance) for _ in range(DRAWN)]
    sign = 1.0 if maximize else -1.0
    tried = [_parameters(trial) for trial in ended]
    values = [sign * trial.values[0] for trial in ended]
    # What still runs counts as bad meanwhile, so that it is not tried twice.
    running = [_parameters(trial) for trial in trials if trial.state is TrialState.RUNNING]
    tried, values = tried + running, values + [min(values)] * len(running)
    gain = expected_gain(plan.space, tried, values, candidates, seed)
    cost = np.array([seconds(candidate) for candidate in candidates])
    return candidates[int(np.argmax(np.log(gain) - power * np.log(cost)))]


def cooled(weight: float, ended: int, startup_trials: int, trials: int) -> float:
    """The power of cost after ``ended`` of ``trials``: ``weight`` after those to start from, 0 at the end.

    >>> [round(cooled(1.0, ended, startup_trials=10, trials=30), 2) for ended in (5, 10, 20, 30, 31)]
    [1.0, 1.0, 0.5, 0.0, 0.0]
    """
    left = (trials - ended) / max(1, trials - startup_trials)
    return weight * max(0.0, min(1.0, left))


def _ended(trials: list[FrozenTrial]) -> list[FrozenTrial]:
    return [trial for trial in trials if trial.state in (TrialState.COMPLETE, TrialState.PRUNED) and trial.values]


def _parameters(trial: Any) -> dict[str, Scalar]:
    parameters: dict[str, Scalar] = trial.user_attrs[ASKED]["parameters"]
    return parameters
