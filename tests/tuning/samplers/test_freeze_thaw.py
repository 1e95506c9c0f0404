"""Decisions of a freeze-thaw search, from lists of past trials alone."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from finesearch.plan import Scalar, Space
from finesearch.plan.space.parse_space import parse_space
from finesearch.plan.space.random_sampling import RandomTrial
from finesearch.tuning.samplers.curve_forecast import forecast
from finesearch.tuning.samplers.encoded_space import EncodedSpace
from finesearch.tuning.samplers.freeze_thaw import (
    SHOWN,
    FreezeThaw,
    PastTrial,
    ResumeTrial,
    StartTrial,
    log_expected_improvement,
    shown_to_model,
)
from finesearch.tuning.samplers.gaussian_process import GaussianProcess, fitting_density

BRANCHED: dict[str, Any] = {
    "learning_rate": {"min": 1e-5, "max": 1e-2, "log": True},
    "batch_size": {"min": 8, "max": 64, "step": 8},
    "label_smoothing": [0.0, 0.1],
    "dropout": {"min": 0.0, "max": 0.3},
    "adaptation": {
        "one_of": {
            "full": {},
            "freeze_bottom": {"layers": {"min": 1, "max": 5}},
            "head_only": {"learning_rate": {"min": 1e-3, "max": 1e-1, "log": True}},
        }
    },
}
FLAT = {"learning_rate": {"min": 1e-5, "max": 1e-1, "log": True}, "weight_decay": {"min": 0.0, "max": 0.3}}


@cache
def space(branched: bool = True) -> Space:
    return parse_space(BRANCHED if branched else FLAT)


def drawn(count: int, seed: int = 0, branched: bool = True) -> list[dict[str, Scalar]]:
    chance = RandomTrial(seed)
    return [space(branched).suggest(chance) for _ in range(count)]


def quality(configuration: dict[str, Scalar]) -> float:
    """Best at a rate of 1e-3."""
    return 1.0 - 0.2 * (np.log10(float(configuration["learning_rate"])) + 3.0) ** 2


# -- the space as numbers --------------------------------------------------------------------------------------------


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 2**31))
def test_a_configuration_comes_back_from_its_place(seed: int) -> None:
    encoded = EncodedSpace(space())
    (configuration,) = drawn(1, seed)
    back = encoded.configuration(encoded.place(configuration))
    assert back == {
        name: pytest.approx(value) if isinstance(value, float) else value for name, value in configuration.items()
    }


def test_configurations_of_one_branch_differ_in_its_own_parameters_alone() -> None:
    encoded = EncodedSpace(space())
    names = [parameter.name for parameter in space().parameters]
    full = {"adaptation": "full", "learning_rate": 1e-3, "batch_size": 8, "label_smoothing": 0.1, "dropout": 0.1}
    places = np.stack([encoded.place(full)] * 2)
    places[1, names.index("adaptation.freeze_bottom.layers")] = 0.9
    places[1, names.index("adaptation.head_only.learning_rate")] = 0.1
    points = encoded.points(places)
    assert (points[0] == points[1]).all()
    # Under head_only dropout has no effect, and the rate is the branch's own: 4 of 7 parameters are drawn.
    head = encoded.points(encoded.place({"adaptation": "head_only"})[None])
    assert encoded.active_per_configuration(head) == 4
    assert encoded.active_per_configuration(points) == 5


# -- the model -------------------------------------------------------------------------------------------------------


def test_the_gradient_of_the_fit_is_right() -> None:
    chance = np.random.default_rng(0)
    points = np.column_stack([chance.random((12, 2)), chance.integers(0, 3, 12)])
    is_choice = np.array([False, False, True])
    density = fitting_density(points, chance.standard_normal(12), np.full(12, 0.01), is_choice, active=3.0)
    at = 0.4 * chance.standard_normal(5)
    step = 1e-5 * np.eye(5)
    numeric = [(density(at + each)[0] - density(at - each)[0]) / 2e-5 for each in step]
    assert density(at)[1] == pytest.approx(numeric, rel=1e-4, abs=1e-5)


def test_the_model_knows_what_it_was_shown_and_doubts_the_rest() -> None:
    chance = np.random.default_rng(0)
    points = np.column_stack([0.5 * chance.random(20), chance.integers(0, 2, 20)])
    values = np.sin(6.0 * points[:, 0]) + points[:, 1]
    model = GaussianProcess.fit(points, values, np.zeros(20), np.array([False, True]), active=2.0)
    mean, deviation = model.predict(points)
    assert np.abs(mean - values).max() < 0.05
    away = model.predict(np.array([[1.0, 0.0]]))
    assert away[1][0] > 5 * deviation.max()
    running = model.believing(np.array([[1.0, 0.0]]))
    assert running.predict(np.array([[1.0, 0.0]]))[0] == pytest.approx(away[0], abs=0.05)
    assert running.predict(np.array([[1.0, 0.0]]))[1][0] < away[1][0] / 2


def test_an_unreliable_value_moves_the_model_less() -> None:
    points, values = np.array([[0.0], [0.5], [1.0]]), np.array([0.0, 1.0, 0.0])
    sure, unsure = (
        GaussianProcess.fit(points, values, np.array([0.0, deviation, 0.0]), np.array([False]), 1.0)
        for deviation in (0.0, 2.0)
    )
    middle = np.array([[0.5]])
    assert unsure.predict(middle)[0][0] < sure.predict(middle)[0][0] - 0.2


def test_expected_improvement_is_finite_and_falls_however_far_below_the_best() -> None:
    means = -np.array([0.0, 1.0, 3.9, 4.1, 10.0, 40.0, 1000.0])
    promise = log_expected_improvement(means, np.ones(len(means)), 0.0)
    assert np.isfinite(promise).all()
    assert (np.diff(promise) < 0).all()
    assert promise[0] == pytest.approx(np.log(1 / np.sqrt(2 * np.pi)))


# -- learning curves -------------------------------------------------------------------------------------------------


def test_a_stopped_trial_gains_what_trials_with_such_values_gained() -> None:
    curves = [[0.5, 0.6, 0.65], [0.52, 0.61, 0.66], [0.1, 0.1, 0.1], [0.51], [0.11]]
    ends = forecast(curves, [3] * 5)
    assert [end.value for end in ends[:3]] == [0.65, 0.66, 0.1]
    assert [end.deviation for end in ends[:3]] == [0.0, 0.0, 0.0]
    assert 0.58 < ends[3].value < 0.67
    assert ends[4].value - 0.11 < 0.5 * (ends[3].value - 0.51)
    assert ends[3].deviation > 0.0


def test_the_best_evaluation_counts_and_more_evaluations_left_are_less_certain() -> None:
    ends = forecast([[0.7, 0.4], [0.7], [0.2]], [2, 6, 6])
    assert ends[0].value == 0.7
    longer, shorter = forecast([[0.5], [0.5, 0.5, 0.5], [0.1]], [6, 6, 6])[:2]
    assert longer.deviation > shorter.deviation > 0.0


# -- decisions -------------------------------------------------------------------------------------------------------


def past(count: int, evaluations: int = 6, seed: int = 0, branched: bool = False) -> list[PastTrial]:
    """Paused trials with one evaluation, at half of what they will reach."""
    return [
        PastTrial(each, (0.5 * quality(each),) if "learning_rate" in each else (0.1,), evaluations, "paused")
        for each in drawn(count, seed, branched)
    ]


def test_startup_trials_are_spread_and_the_same_after_a_restart() -> None:
    started: list[PastTrial] = []
    for _ in range(8):
        decision = FreezeThaw(space(branched=False), 8, seed=3).next(started)
        assert isinstance(decision, StartTrial)
        started.append(PastTrial(decision.parameters, (0.5,), 6, "paused"))
    rates = [np.log10(float(trial.parameters["learning_rate"])) for trial in started]
    assert sorted(int(2 * (rate + 5)) for rate in rates) == list(range(8))


def test_the_best_paused_trial_goes_on_and_a_bad_one_does_not() -> None:
    trials = past(10)
    for place in (0, 1, 2):
        trials[place] = replace(trials[place], values=(0.5, 0.6, 0.7, 0.8, 0.85, 0.9), state="ended")
    trials[7] = replace(trials[7], values=(0.6,))
    policy = FreezeThaw(space(branched=False), 10, seed=0)
    assert policy.next(trials) == ResumeTrial(7)
    trials[7] = replace(trials[7], values=(0.01,))
    assert policy.next(trials) != ResumeTrial(7)


def test_a_search_finds_the_best_rate_and_finishes_good_trials() -> None:
    policy = FreezeThaw(space(branched=False), 6, seed=0)
    trials: list[PastTrial] = []
    shape = (0.5, 0.8, 0.95, 1.0)
    for _ in range(40):
        decision = policy.next(trials)
        if isinstance(decision, StartTrial):
            trials.append(PastTrial(decision.parameters, (), 4, "running"))
            place = len(trials) - 1
        else:
            place = decision.place
        known = trials[place]
        values = (*known.values, quality(dict(known.parameters)) * shape[len(known.values)])
        trials[place] = replace(known, values=values, state="ended" if len(values) == 4 else "paused")
    best = max(trials, key=lambda trial: max(trial.values))
    assert best.state == "ended"
    assert max(best.values) > 0.98
    assert len(trials) > 12, "bad trials are paused early, so that more are tried"


@pytest.mark.parametrize("branched", [True, False])
def test_decisions_are_configurations_of_the_space_and_depend_on_the_trials_alone(branched: bool) -> None:
    trials = [replace(trial, state="ended") for trial in past(12, branched=branched)]
    decision = FreezeThaw(space(branched), 4, seed=1).next(trials)
    assert decision == FreezeThaw(space(branched), 4, seed=1).next(list(trials))
    assert isinstance(decision, StartTrial)
    for parameter in space(branched).parameters:
        is_drawn = parameter.name in decision.parameters
        assert is_drawn is parameter.is_active(decision.parameters)
        assert not is_drawn or parameter.domain.contains(decision.parameters[parameter.name])
    json.dumps(decision.parameters)  # it is journaled


def test_a_running_trial_is_not_started_twice() -> None:
    policy = FreezeThaw(space(branched=False), 4, seed=0)
    trials = [replace(trial, state="ended") for trial in past(12)]
    first = policy.next(trials)
    assert isinstance(first, StartTrial)
    second = policy.next([*trials, PastTrial(first.parameters, (), 6, "running")])
    assert isinstance(second, StartTrial)
    encoded = EncodedSpace(space(branched=False))
    apart = np.abs(encoded.place(first.parameters) - encoded.place(second.parameters)).max()
    assert apart > 0.02


def test_failed_trials_count_as_bad() -> None:
    policy = FreezeThaw(space(branched=False), 4, seed=0)
    trials = [replace(trial, state="ended") for trial in past(12)]
    first = policy.next(trials)
    assert isinstance(first, StartTrial)
    failed = [*trials, *[PastTrial(first.parameters, (), 6, "failed")] * 2]
    second = policy.next(failed)
    assert isinstance(second, StartTrial)
    encoded = EncodedSpace(space(branched=False))
    assert np.abs(encoded.place(first.parameters) - encoded.place(second.parameters)).max() > 0.05


def test_a_space_that_draws_nothing_has_one_configuration() -> None:
    policy = FreezeThaw(parse_space({"weight_decay": 0.1}), 2, seed=0)
    ended = PastTrial({}, (0.1, 0.2), 2, "ended")
    assert policy.next([]) == policy.next([ended] * 3) == StartTrial({})


def test_no_decision_needs_a_finite_number_of_good_trials() -> None:
    policy = FreezeThaw(space(branched=False), 2, seed=0)
    alike = [PastTrial(each, (0.5, 0.5), 2, "ended") for each in drawn(5, branched=False)]
    assert isinstance(policy.next(alike), StartTrial)
    none = [replace(trial, values=(), state="failed") for trial in alike]
    assert isinstance(policy.next(none), StartTrial)


def test_the_model_is_fitted_to_a_bounded_number_of_trials() -> None:
    trials = [replace(trial, state="ended") for trial in past(3 * SHOWN)]
    ends = dict(enumerate(forecast([trial.values for trial in trials], [1] * len(trials))))
    shown = shown_to_model(ends)
    best = max(ends, key=lambda place: ends[place].value)
    assert len(shown) == SHOWN
    assert {best, len(trials) - 1} <= shown.keys()


def test_in_a_small_space_nothing_is_started_twice_before_all_was_started_once() -> None:
    policy = FreezeThaw(parse_space({"dropout": [0.0, 0.1, 0.2], "label_smoothing": [0.0, 0.1]}), 2, seed=0)
    trials: list[PastTrial] = []
    for number in range(8):
        decision = policy.next(trials)
        assert isinstance(decision, StartTrial)
        value = 0.9 - 0.1 * float(decision.parameters["dropout"]) + 0.001 * number
        trials.append(PastTrial(decision.parameters, (value,), 1, "ended"))
    started = [tuple(trial.parameters.values()) for trial in trials]
    assert len(set(started[:6])) == 6
