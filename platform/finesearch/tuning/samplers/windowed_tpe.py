"""TPE whose suggestions cost the same for any number of trials."""

from __future__ import annotations

import copy
import heapq
from collections.abc import Container
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial, TrialState

WINDOW = 1000
BEST = 25  # Optuna's TPE counts at most this many trials as good


class WindowedStudy(Study):
    """A study that shows the sampler the newest ``WINDOW`` trials and the best of the older ones.

    TPE models the density of good trials and of all others. All good ones are shown; those left out are among the
    others, whose density a thousand describe as well as many thousands, at a lower cost.

    Two private names have no public counterpart. Optuna's TPE reads trials only through ``Study._get_trials``: all of
    them, where the public ``get_trials`` of the study that Hyperband passes to samplers holds those of one bracket. And
    a sampler gets the study without its storage.
    """

    def __init__(self, study: Study) -> None:
        super().__init__(study.study_name, study._storage, sampler=study.sampler, pruner=study.pruner)
        trials = study._get_trials(deepcopy=False, use_cache=True)
        self._chosen = windowed(trials, self.direction is StudyDirection.MAXIMIZE)
        self._by_state: dict[tuple[TrialState, ...], list[FrozenTrial]] = {}

    def one_of_each_shape(self) -> WindowedStudy:
        """The first trial of each set of drawn parameters.

        Optuna infers a conditional space from the parameters that trials drew, and looks at all trials for each
        suggestion; a second trial with the same parameters adds nothing.
        """
        shapes: dict[tuple[str, ...], FrozenTrial] = {}
        for trial in self._get_trials(states=(TrialState.COMPLETE, TrialState.PRUNED)):
            shapes.setdefault(tuple(trial.distributions), trial)
        few = copy.copy(self)
        few._chosen, few._by_state = list(shapes.values()), {}
        return few

    def _get_trials(
        self, deepcopy: bool = True, states: Container[TrialState] | None = None, use_cache: bool = False
    ) -> list[FrozenTrial]:
        if states is None:
            return list(self._chosen)
        # Called many times while one trial is suggested, during which no trial changes its state.
        selected = tuple(state for state in TrialState if state in states)
        if selected not in self._by_state:
            self._by_state[selected] = [trial for trial in self._chosen if trial.state in selected]
        return list(self._by_state[selected])


def windowed(trials: list[FrozenTrial], maximize: bool) -> list[FrozenTrial]:
    """The newest ``WINDOW`` trials, and of the older ones the running and the ``BEST`` complete; in their order."""
    if len(trials) <= WINDOW:
        return trials
    older = trials[:-WINDOW]
    complete = [trial for trial in older if trial.state is TrialState.COMPLETE]
    choose = heapq.nlargest if maximize else heapq.nsmallest
    best = choose(BEST, complete, key=lambda trial: trial.values[0])
    running = [trial for trial in older if trial.state is TrialState.RUNNING]
    return [*sorted([*best, *running], key=lambda trial: trial.number), *trials[-WINDOW:]]


class WindowedTPESampler(optuna.samplers.TPESampler):
    """Optuna's TPE up to ``WINDOW`` trials, and with several objectives; beyond, it sees a :class:`WindowedStudy`."""

    _window: tuple[int, Study] | None = None

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        seen = self._seen(study, trial)
        return super().infer_relative_search_space(
            seen.one_of_each_shape() if isinstance(seen, WindowedStudy) else seen, trial
        )

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        return super().sample_relative(self._seen(study, trial), trial, search_space)

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        return super().sample_independent(self._seen(study, trial), trial, param_name, param_distribution)

    def _seen(self, study: Study, trial: FrozenTrial) -> Study:
        """The window of the study, chosen once for each suggested trial."""
        if len(study.directions) > 1:
            return study
        if self._window is None or self._window[0] != trial.number:
            self._window = (trial.number, WindowedStudy(study))
        return self._window[1]
