"""Configurations as a sampler of Optuna would propose them, drawn without becoming trials."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import TrialState, create_trial

if TYPE_CHECKING:
    from optuna.samplers import BaseSampler


class SamplerDraw:
    """Draws what ``sampler`` would suggest next for ``study``, which it only reads; each one made is another draw."""

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
