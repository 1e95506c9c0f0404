"""Searches generation settings (beams, temperature, ...) of a trained model on validation, without training again."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import optuna
from optuna.trial import TrialState

from finesearch.plan import GenerationChoices, GenerationPlan

DRAWS_A_SETTING = 20
"""How often TPE may propose a repeated combination, for each combination to be tried."""


@dataclass(frozen=True)
class ChosenGeneration:
    """The best settings on validation, their metric, and how many were tried beside the plan's own."""

    settings: GenerationPlan
    value: float
    tried: int


def choose_generation(
    choices: GenerationChoices,
    own: GenerationPlan,
    own_value: float,
    score: Callable[[GenerationPlan], float],
    maximize: bool,
    seed: int = 0,
) -> ChosenGeneration:
    """Try combinations of ``choices``, at most ``choices.settings``; ties go to the plan's own settings.

    All are tried where they are few enough; otherwise TPE (Bergstra et al., 2011) proposes them. Settings with a
    non-finite value are never chosen.

    own_value: ``score`` of ``own``. score: the metric on validation.
    """
    candidates = choices.candidates(own)
    if len(candidates) > choices.settings:
        values = _proposed(choices, own, own_value, score, maximize, seed)
    else:
        values = {settings: score(settings) for settings in candidates}
    best, best_value = own, own_value
    for settings, value in values.items():
        if math.isfinite(value) and (value > best_value if maximize else value < best_value):
            best, best_value = settings, value
    return ChosenGeneration(best, best_value, len(values))


def _proposed(
    choices: GenerationChoices,
    own: GenerationPlan,
    own_value: float,
    score: Callable[[GenerationPlan], float],
    maximize: bool,
    seed: int,
) -> dict[GenerationPlan, float]:
    """Values of the combinations that TPE proposes one after another, up to the limit."""
    sampler = optuna.samplers.TPESampler(seed=seed, n_startup_trials=max(2, choices.settings // 2))
    study = optuna.create_study(direction="maximize" if maximize else "minimize", sampler=sampler)
    known = {own.effective: own_value}
    for _ in range(DRAWS_A_SETTING * choices.settings):
        if len(known) > choices.settings:
            break
        trial = study.ask()
        drawn = {name: trial.suggest_categorical(name, values) for name, values in choices.choices.items()}
        settings = own.model_copy(update=drawn).effective
        if settings not in known:
            known[settings] = score(settings)
        if math.isfinite(known[settings]):
            study.tell(trial, known[settings])
        else:
            study.tell(trial, state=TrialState.FAIL)
    return {settings: value for settings, value in known.items() if settings != own.effective}
