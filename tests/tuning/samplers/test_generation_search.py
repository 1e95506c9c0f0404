"""Choosing generation settings: the policy alone, with a function in place of a model."""

import math

from finesearch.plan import GenerationChoices, GenerationPlan
from finesearch.tuning.samplers.generation_search import choose_generation

OWN = GenerationPlan(beams=1, max_new_tokens=32)


def test_all_combinations_are_tried_where_they_are_few() -> None:
    asked: list[GenerationPlan] = []

    def score(settings: GenerationPlan) -> float:
        asked.append(settings)
        return settings.beams + settings.length_penalty

    choices = GenerationChoices(beams=[1, 2, 4], length_penalty=[1.0, 2.0])
    chosen = choose_generation(choices, OWN, 2.0, score, maximize=True)
    assert (chosen.settings.beams, chosen.settings.length_penalty, chosen.value, chosen.tried) == (4, 2.0, 6.0, 4)
    # One beam has no length penalty: those two are the plan's own settings, whose value is known.
    assert [(each.beams, each.length_penalty) for each in asked] == [(2, 1.0), (2, 2.0), (4, 1.0), (4, 2.0)]
    assert chosen.settings.max_new_tokens == 32


def test_a_tie_and_a_value_that_is_not_finite_leave_the_plans_own_settings() -> None:
    choices = GenerationChoices(beams=[2, 4])
    assert choose_generation(choices, OWN, 0.5, lambda _: 0.5, maximize=True).settings == OWN
    assert choose_generation(choices, OWN, 0.5, lambda _: math.nan, maximize=False).settings == OWN


def test_of_many_combinations_a_few_are_tried_none_twice_and_the_same_ones_again() -> None:
    choices = GenerationChoices(beams=[1, 2, 4, 8], length_penalty=[0.5, 1.0, 2.0], temperature=[None, 0.7], settings=6)

    def run() -> tuple[list[GenerationPlan], GenerationPlan]:
        asked: list[GenerationPlan] = []

        def score(settings: GenerationPlan) -> float:
            asked.append(settings)
            return abs(settings.beams - 4) + abs(settings.length_penalty - 1.0)

        chosen = choose_generation(choices, OWN, 3.0, score, maximize=False, seed=3)
        assert chosen.tried == len(asked)
        assert chosen.value == min(3.0, *(score(settings) for settings in asked[:6]))
        return asked[:6], chosen.settings

    first, best = run()
    assert len(set(first)) == 6
    assert OWN not in first
    assert run() == (first, best)
