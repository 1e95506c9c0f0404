"""The trials that a sampler starts from cover the space evenly."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from finesearch.plan import Plan
from finesearch.tuning.samplers.latin_hypercube import latin_hypercube_configuration
from plans import empty_plan

SPACE = (
    "{learning_rate: {min: 1.0e-6, max: 1.0e-2, log: true}, weight_decay: {min: 0.0, max: 0.3}, "
    "batch_size: {min: 8, max: 64, step: 8}, label_smoothing: [0.0, 0.1], "
    "adaptation: {one_of: {full: {}, freeze_bottom: {layers: {min: 1, max: 5}}, lora: {rank: [4, 16]}}}}"
)


def plan_of(startup: int = 10, seed: int = 0, sampler: str = "tpe", first: str = "[]", space: str = SPACE) -> Plan:
    search = f"{{sampler: {sampler}, pruner: none, startup_trials: {startup}, seed: {seed}, first: {first}}}"
    return empty_plan(space=space, search=search, budget="{trials: 40}")


def part(value: float, low: float, high: float, parts: int) -> int:
    """Which of so many equal parts of a range a value lies in."""
    return min(parts - 1, math.floor((value - low) / (high - low) * parts))


@settings(max_examples=25, deadline=None)
@given(startup=st.integers(2, 40), seed=st.integers(0, 2**16))
def test_each_part_of_a_range_is_tried_once(startup: int, seed: int) -> None:
    plan = plan_of(startup, seed)
    tried = [latin_hypercube_configuration(plan, number) for number in range(startup)]
    rates = [part(math.log10(each["learning_rate"]), -6.0, -2.0, startup) for each in tried]
    decays = [part(each["weight_decay"], 0.0, 0.3, startup) for each in tried]
    assert sorted(rates) == sorted(decays) == list(range(startup))
    branches = [each["adaptation"] for each in tried]
    for name in ("full", "freeze_bottom", "lora"):
        assert abs(branches.count(name) - startup / 3) < 2  # parts on a border fall on either side
    for each in tried:
        recipe = plan.space.recipe(each, plan.training)  # every active parameter, and no other
        assert recipe.batch_size in range(8, 65, 8)
        assert ("adaptation.freeze_bottom.layers" in each) is (recipe.adaptation == "freeze_bottom")


def test_ranges_are_not_spread_in_step_with_each_other() -> None:
    plan = plan_of()
    tried = [latin_hypercube_configuration(plan, number) for number in range(10)]
    by_rate = sorted(tried, key=lambda each: each["learning_rate"])
    decays = [each["weight_decay"] for each in by_rate]
    assert decays not in (sorted(decays), sorted(decays, reverse=True))
    assert tried != by_rate, "a search that is cut short would have seen one end only"


def test_a_seed_has_its_own_trials_and_the_same_ones_each_time() -> None:
    once, again, other = (
        [latin_hypercube_configuration(plan_of(seed=seed), n) for n in range(10)] for seed in (1, 1, 2)
    )
    assert once == again
    assert not [each for each in once if each in other]


def test_configurations_that_the_plan_gives_count_among_those_to_start_from() -> None:
    plan = plan_of(4, first="[{learning_rate: 1.0e-4}]")
    tried = [latin_hypercube_configuration(plan, number) for number in range(1, 4)]
    assert sorted(part(math.log10(each["learning_rate"]), -6.0, -2.0, 3) for each in tried) == [0, 1, 2]
    assert latin_hypercube_configuration(plan, 0) is None
    assert latin_hypercube_configuration(plan, 4) is None


@pytest.mark.parametrize(
    ("sampler", "space"),
    [
        ("random", SPACE),
        ("qmc", "{learning_rate: {min: 0.1, max: 0.9}}"),
        ("grid", "{learning_rate: [0.1, 0.2]}"),
    ],
)
def test_samplers_that_learn_nothing_draw_all_of_their_trials(sampler: str, space: str) -> None:
    assert latin_hypercube_configuration(plan_of(sampler=sampler, space=space), 0) is None


def test_without_trials_to_start_from_the_sampler_has_the_first() -> None:
    assert latin_hypercube_configuration(plan_of(0), 0) is None
