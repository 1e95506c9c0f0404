"""Builds Optuna's samplers and pruners from a plan, and the seed of each trial."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import optuna
from optuna.pruners import BasePruner
from optuna.samplers import BaseSampler

from finesearch.tuning.samplers.successive_halving import RungPruner
from finesearch.tuning.samplers.windowed_tpe import WindowedTPESampler
from finesearch.tuning.trial_seed import trial_seed

if TYPE_CHECKING:
    from finesearch.plan import Plan


def make_sampler(plan: Plan, number: int, concurrent_trials: int) -> BaseSampler:
    """The sampler that suggests trial ``number``; its state is in the study, none in the object."""
    search = plan.search
    seed = trial_seed(search.seed, number)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        match search.sampler:
            case "tpe":
                return WindowedTPESampler(
                    n_startup_trials=search.startup_trials,
                    multivariate=True,
                    group=True,  # conditional space: each branch has its own model
                    constant_liar=concurrent_trials > 1,
                    seed=seed,
                )
            case "random" | "freeze_thaw":  # what freeze_thaw decides is given to the journal
                return optuna.samplers.RandomSampler(seed=seed)
            case "gp":
                return optuna.samplers.GPSampler(n_startup_trials=search.startup_trials, seed=seed)
            case "cmaes":
                return optuna.samplers.CmaEsSampler(n_startup_trials=search.startup_trials, seed=seed)
            case "qmc":
                # All trials share one low-discrepancy sequence, so its scrambling must not depend on the number.
                return optuna.samplers.QMCSampler(scramble=True, seed=search.seed)
            case "grid":
                return optuna.samplers.GridSampler(plan.space.grid(), seed=search.seed)
    raise AssertionError(f"the plan let the sampler {search.sampler!r} through")


def make_pruner(plan: Plan, max_steps: int) -> BasePruner:
    """The pruner over ``max_steps`` evaluations a trial, counted from 1.

    Resources are given, never ``auto``: Optuna derives those from the first trial that ends, which differs after a
    restart.
    """
    search = plan.search
    if search.sampler == "freeze_thaw":  # it judges evaluations itself
        return optuna.pruners.NopPruner()
    match search.pruner:
        case "none":
            return optuna.pruners.NopPruner()
        case "median":
            return optuna.pruners.MedianPruner(
                n_startup_trials=search.startup_trials, n_warmup_steps=max(0, search.min_evaluations - 1)
            )
        case "successive_halving":
            return RungPruner(min_resource=search.min_evaluations, reduction_factor=search.reduction_factor)
        case "hyperband":
            return optuna.pruners.HyperbandPruner(
                min_resource=search.min_evaluations,
                max_resource=max(max_steps, search.min_evaluations),
                reduction_factor=search.reduction_factor,
            )
    raise AssertionError(f"the plan let the pruner {search.pruner!r} through")
