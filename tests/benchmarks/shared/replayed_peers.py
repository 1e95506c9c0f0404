"""Peers' search policies, replayed: the decisions are taken by their own code, only the clock is not theirs."""

from __future__ import annotations

import types
import warnings
from typing import Any

import numpy as np
import optuna
from shared.curve_tables import EVALUATIONS
from shared.replay import Resume, Start

from finesearch.plan import Choice, Range, Space
from finesearch.plan.space.random_sampling import RandomTrial


class RandomSearch:
    """Whole trials drawn at random."""

    def __init__(self, space: Space, seed: int) -> None:
        self._space, self._chance = space, RandomTrial(seed)

    def next(self) -> Start | Resume | None:
        return Start(self._space.suggest(self._chance))

    def evaluated(self, trial: int, step: int, value: float, is_last: bool) -> bool:
        return True


class OptunaSearch:
    """Optuna's TPE with one of its pruners, each with its defaults but for the resources."""

    def __init__(self, space: Space, seed: int, pruner: optuna.pruners.BasePruner) -> None:
        sampler = optuna.samplers.TPESampler(seed=seed)
        self._space = space
        self._study = optuna.create_study(direction="maximize", sampler=sampler, pruner=pruner)
        self._trials: list[optuna.Trial] = []

    def next(self) -> Start | Resume | None:
        self._trials.append(self._study.ask())
        return Start(self._space.suggest(self._trials[-1]))

    def evaluated(self, trial: int, step: int, value: float, is_last: bool) -> bool:
        handle = self._trials[trial]
        handle.report(value, step)
        if is_last:
            self._study.tell(handle, value)
        elif handle.should_prune():
            self._study.tell(handle, state=optuna.trial.TrialState.PRUNED)
            return False
        return True


class RayAsha:
    """Ray Tune's ASHA with its OptunaSearch; the decisions are Ray's, the clock is not."""

    def __init__(self, space: Space, seed: int) -> None:
        from ray.tune.schedulers import ASHAScheduler
        from ray.tune.search.optuna import OptunaSearch as RayOptunaSearch

        np.random.seed(seed)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self._searcher = RayOptunaSearch(
                lambda trial: None if space.suggest(trial) else None, metric="score", mode="max", seed=seed
            )
        self._scheduler: Any = ASHAScheduler(metric="score", mode="max", max_t=EVALUATIONS, grace_period=1)
        self._trials: list[Any] = []

    def next(self) -> Start | Resume | None:
        name = str(len(self._trials))
        suggested = self._searcher.suggest(name)
        assert suggested is not None
        # Only the id of a trial is read by the scheduler.
        trial = types.SimpleNamespace(trial_id=name)
        self._trials.append(trial)
        self._scheduler.on_trial_add(None, trial)
        return Start(dict(self._searcher._ot_trials[name].params))

    def evaluated(self, trial: int, step: int, value: float, is_last: bool) -> bool:
        result = {"score": value, "training_iteration": step}
        name = str(trial)
        self._searcher.on_trial_result(name, result)
        stops = self._scheduler.on_trial_result(None, self._trials[trial], result) == "STOP"
        if stops or is_last:
            self._scheduler.on_trial_complete(None, self._trials[trial], result)
            self._searcher.on_trial_complete(name, result)
        return not stops


class SyneTuneAsha:
    """Syne Tune's ASHA; draws at random, as it does by default."""

    def __init__(self, space: Space, seed: int) -> None:
        from syne_tune import config_space
        from syne_tune.optimizer.baselines import ASHA

        assert not space.is_conditional, "Syne Tune has no conditional spaces"
        np.random.seed(seed)
        self._scheduler: Any = ASHA(
            {parameter.name: _syne_tune_domain(config_space, parameter.domain) for parameter in space.parameters},
            metric="score",
            do_minimize=False,
            time_attr="step",
            max_t=EVALUATIONS,
            random_seed=seed,
        )
        self._trials: list[Any] = []

    def next(self) -> Start | Resume | None:
        import datetime

        from syne_tune.backend.trial_status import Trial

        config = self._scheduler.suggest().config
        trial = Trial(trial_id=len(self._trials), config=config, creation_time=datetime.datetime.now())
        self._trials.append(trial)
        self._scheduler.on_trial_add(trial)
        return Start(config)

    def evaluated(self, trial: int, step: int, value: float, is_last: bool) -> bool:
        result = {"score": value, "step": step}
        if is_last:
            self._scheduler.on_trial_complete(self._trials[trial], result)
            return True
        return bool(self._scheduler.on_trial_result(self._trials[trial], result) != "STOP")


def _syne_tune_domain(config_space: Any, domain: Any) -> Any:
    if isinstance(domain, Choice):
        return config_space.choice(list(domain.values))
    assert isinstance(domain, Range)
    if domain.integer:
        draw = config_space.lograndint if domain.log else config_space.randint
        return draw(int(domain.low), int(domain.high))
    return (config_space.loguniform if domain.log else config_space.uniform)(domain.low, domain.high)
