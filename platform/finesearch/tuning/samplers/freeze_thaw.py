"""Freeze-thaw search: after each evaluation, what promises most goes on, be it a new trial or one that was paused.

A Gaussian process over configurations sees every trial, the paused ones with what they are expected to reach. Of the
expected improvements of all paused trials and of new configurations, the largest decides (Swersky, Snoek and Adams,
2014; Wistuba, Kadra and Grabocka, 2022).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np

from finesearch.plan import Scalar, Space
from finesearch.tuning.samplers.curve_forecast import Forecast, forecast
from finesearch.tuning.samplers.encoded_space import EncodedSpace
from finesearch.tuning.samplers.gaussian_process import GaussianProcess
from finesearch.tuning.samplers.latin_hypercube import spread_configuration

DRAWN, NEAR, AROUND = 512, 48, 5
"""Candidates: drawn at random, and near each of the best trials."""
CLIPPED = 2.0
"""Values further below the best than this many times the median's distance only say "not here"."""

SHOWN = 200
"""Trials that the model is fitted to."""


@dataclass(frozen=True)
class PastTrial:
    """What a search knows of one trial.

    parameters: active ones. values: after each evaluation, larger is better. evaluations: of the whole trial.
    """

    parameters: Mapping[str, Scalar]
    values: tuple[float, ...]
    evaluations: int
    state: Literal["running", "paused", "ended", "failed"]

    @property
    def is_measured(self) -> bool:
        return bool(self.values) and self.state != "failed"


@dataclass(frozen=True)
class StartTrial:
    """Start a trial of these parameters."""

    parameters: Mapping[str, Scalar]


@dataclass(frozen=True)
class ResumeTrial:
    """Go on with the trial at this place of the list."""

    place: int


Decision = StartTrial | ResumeTrial


@dataclass(frozen=True)
class FreezeThaw:
    """Decisions of one search; the same for the same trials.

    seed: of the search. given: trials at its start that had a configuration before; startup trials follow them.
    """

    space: Space
    startup_trials: int
    seed: int
    given: int = 0

    def next(self, trials: Sequence[PastTrial]) -> Decision:
        """What a free worker does, given all trials so far in the order of their start."""
        number = len(trials)
        if number - self.given < self.startup_trials:
            return StartTrial(
                spread_configuration(self.space, self.startup_trials, max(0, number - self.given), self.seed)
            )
        if not any(trial.is_measured for trial in trials):
            return StartTrial(self._encoded.configuration(self._chance(number).random(len(self._encoded))))
        return self._most_promising(trials)

    @cached_property
    def _encoded(self) -> EncodedSpace:
        return EncodedSpace(self.space)

    def _chance(self, *numbers: int) -> np.random.Generator:
        return np.random.default_rng([self.seed, *numbers])

    def _most_promising(self, trials: Sequence[PastTrial]) -> Decision:
        measured = [place for place, trial in enumerate(trials) if trial.is_measured]
        ends = forecast([trials[place].values for place in measured], [trials[place].evaluations for place in measured])
        best = max(max(trials[place].values) for place in measured)
        places = self._candidates(trials)
        model = self._model(trials, dict(zip(measured, ends, strict=True)))
        points = self._encoded.points(places)
        promise = log_expected_improvement(*model.predict(points), best)
        is_known = (points[:, None, :] == self._points(trials)).all(axis=2).any(axis=1)
        if not is_known.all():  # in a small space nothing is trained twice before all was trained once
            promise[is_known] = -np.inf
        new = int(np.argmax(promise))
        paused = {
            place: _promise_of(end, best)
            for place, end in zip(measured, ends, strict=True)
            if trials[place].state == "paused"
        }
        old = max(paused, key=lambda place: paused[place], default=None)
        if old is not None and paused[old] >= promise[new]:
            return ResumeTrial(old)
        return StartTrial(self._encoded.configuration(places[new]))

    def _model(self, trials: Sequence[PastTrial], ends: Mapping[int, Forecast]) -> GaussianProcess:
        """Fitted to the forecast ends, by place, and to failed trials as bad ones."""
        points = self._points(trials)
        reached = np.array([end.value for end in ends.values()])
        lowest = reached.max() - CLIPPED * max(float(reached.max() - np.median(reached)), 1e-12)
        failed = Forecast(lowest, 0.0)
        shown = shown_to_model(
            dict(ends) | {place: failed for place, trial in enumerate(trials) if trial.state == "failed"}
        )
        model = GaussianProcess.fit(
            points[list(shown)],
            np.array([max(end.value, lowest) for end in shown.values()]),
            np.array([end.deviation for end in shown.values()]),
            self._encoded.is_choice,
            self._encoded.active_per_configuration(points[list(shown)]),
        )
        running = [place for place, trial in enumerate(trials) if trial.state == "running" and not trial.values]
        return model.believing(points[running])

    def _points(self, trials: Sequence[PastTrial]) -> np.ndarray:
        return self._encoded.points(np.stack([self._encoded.place(trial.parameters) for trial in trials]))

    def _candidates(self, trials: Sequence[PastTrial]) -> np.ndarray:
        """Places (n, d) to choose from."""
        chance = self._chance(len(trials), sum(len(trial.values) for trial in trials))
        drawn = [chance.random((DRAWN, len(self._encoded)))]
        best = sorted(
            (trial for trial in trials if trial.is_measured),
            key=lambda trial: -max(trial.values),
        )[:AROUND]
        for trial in best:
            centre = self._encoded.place(trial.parameters)
            shape = (NEAR, len(centre))
            away = 10.0 ** chance.uniform(-2.0, -0.5, (NEAR, 1)) * chance.standard_normal(shape)
            redrawn = np.where(chance.random(shape) < 0.1, chance.random(shape), centre)
            moved = np.where(self._encoded.is_choice, redrawn, centre + np.where(chance.random(shape) < 0.7, away, 0.0))
            drawn.append(np.clip(moved, 0.0, 1.0 - 1e-9))
        return np.concatenate(drawn)


def shown_to_model(ends: Mapping[int, Forecast]) -> dict[int, Forecast]:
    """What the model is fitted to, whose cost grows with the cube of it: the best ``SHOWN / 2``, and the newest."""
    if len(ends) <= SHOWN:
        return dict(sorted(ends.items()))
    best = sorted(ends, key=lambda place: (-ends[place].value, place))[: SHOWN // 2]
    newest = sorted(ends.keys() - best)[-(SHOWN - len(best)) :]
    return {place: ends[place] for place in sorted([*best, *newest])}


def _promise_of(end: Forecast, best: float) -> float:
    mean, deviation = np.array([end.value]), np.array([max(end.deviation, 1e-12)])
    return float(log_expected_improvement(mean, deviation, best)[0])


def log_expected_improvement(mean: np.ndarray, deviation: np.ndarray, best: float) -> np.ndarray:
    """Logarithm (n,) of the expected improvement over ``best`` of normal values (n,) (Jones, Schonlau, Welch, 1998)."""
    from scipy.special import erfcx, ndtr

    away = (mean - best) / deviation
    density = np.exp(-0.5 * away * away) / np.sqrt(2.0 * np.pi)
    plain = away * ndtr(away) + density
    # Far below, the two terms cancel; there the ratio of tail and density is well behaved (Ament et al., 2023).
    far = away < -4.0
    tail = np.where(far, away, -4.0)
    ratio = np.sqrt(np.pi / 2.0) * erfcx(-tail / np.sqrt(2.0))
    log_far = -0.5 * tail * tail - 0.5 * np.log(2.0 * np.pi) + np.log(np.maximum(1.0 + tail * ratio, 1e-300))
    result: np.ndarray = np.log(deviation) + np.where(far, log_far, np.log(np.maximum(plain, 1e-300)))
    return result
