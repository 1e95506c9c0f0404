"""search.cost_weight: read, bounded, refused with several objectives, and said to do nothing where it does nothing."""

from __future__ import annotations

import pytest

from plan_examples import changed, made, refusal


def test_cost_counts_nothing_unless_asked_for() -> None:
    assert made().search.cost_weight == 0.0
    assert made(search__cost_weight=0.5).search.cost_weight == 0.5
    assert made(search__cost_weight=1).search.cost_weight == 1.0


@pytest.mark.parametrize("weight", [-0.1, 1.1, "much"])
def test_a_weight_lies_between_0_and_1(weight: object) -> None:
    assert "search.cost_weight: expected" in refusal(changed(search__cost_weight=weight))


def test_cost_is_not_weighed_against_several_objectives() -> None:
    objectives = [{"metric": "accuracy"}, {"metric": "seconds"}]
    said = refusal(changed(search={"cost_weight": 1.0, "pruner": "none", "objectives": objectives}))
    assert "search.cost_weight: it weighs the gain of one objective, got 2 objectives" in said
    assert "Leave it out: as an objective, seconds weigh already." in said


@pytest.mark.parametrize("sampler", ["random", "gp", "cmaes", "qmc"])
def test_only_tpe_proposes_what_is_weighed(sampler: str) -> None:
    warning = f"search.cost_weight has no effect: it chooses among what tpe proposes, not {sampler}."
    assert warning in made(search__sampler=sampler, search__cost_weight=1.0).warnings
    assert made(search__sampler="tpe", search__cost_weight=1.0).warnings == ()


def test_a_weight_is_part_of_what_a_run_goes_on_with() -> None:
    assert made(search__cost_weight=1.0).differences(made()) == ["search.cost_weight: 1.0, was 0.0"]
