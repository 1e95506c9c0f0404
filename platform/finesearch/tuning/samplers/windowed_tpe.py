"""TPE whose suggestions cost the same however many trials there were."""

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
BEST = 25  # Optuna's TPE calls at most so many trials good


class WindowedStudy(Study):
    """A study of which the sampler sees the newest ``WINDOW`` trials and the best that are older.

    TPE models the density of good trials and of all others. The good ones are all there; those that are left out are
    among the others, where thousands draw the same picture as a thousand, at a cost that grows with their number.

    Two private names have no public counterpart. Optuna's TPE reads trials by ``Study._get_trials`` alone: all of them,
    where the public ``get_trials`` of the study that Hyperband hands to samplers holds those of one bracket. And a
    sampler is given the study without its storage.
    """

    def __init__(self, study: Study) -> None:
        super().__init__(study.study_name, study._storage, sampler=study.sampler, pruner=study.pruner)
        trials = study._get_trials(deepcopy=False, use_cache=True)
        self._chosen = windowed(trials, self.direction is StudyDirection.MAXIMIZE)
        self._by_state: dict[tuple[TrialState, ...], list[FrozenTrial]] = {}

    def one_of_each_shape(self) -> WindowedStudy:
        """The first of the trials that drew the same parameters, of each such set of them.

        A conditional space is found by what trials have drawn; the second of a kind tells nothing new, and Optuna
        looks at all of them for each suggestion.
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
        # Asked for again and again while one trial is suggested, in which none of them changes its state.
        wanted = tuple(state for state in TrialState if state in states)
        if wanted not in self._by_state:
            self._by_state[wanted] = [trial for trial in self._chosen if trial.state in wanted]
        return list(self._by_state[wanted])


def windowed(trials: list[FrozenTrial], maximize: bool) -> list[FrozenTrial]:
    """The newest ``WINDOW`` trials, and of the older ones those that run and the ``BEST`` complete; in their order."""
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
        """What is shown of the study: chosen once for each trial that is suggested."""
        if len(study.directions) > 1:
            return study
        if self._window is None or self._window[0] != trial.number:
            self._window = (trial.number, WindowedStudy(study))
        return self._window[1]
