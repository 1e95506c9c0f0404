"""Startup trials of a sampler, spread evenly: a Latin hypercube (McKay, Beckman and Conover, 1979).

Drawn independently, ten trials leave about a third of the tenths of each range untried. Here each range is cut into as
many equal parts as there are such trials, and each part is tried once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from finesearch.plan import Scalar, Space
from finesearch.plan.space.random_sampling import QuantileTrial

if TYPE_CHECKING:
    from finesearch.plan import Plan

MODELLED = ("tpe", "gp", "cmaes")
"""Samplers that learn from trials, and need startup trials."""


def latin_hypercube_configuration(plan: Plan, number: int) -> dict[str, Scalar] | None:
    """Configuration of trial ``number`` where it is a startup trial; None leaves it to the sampler.

    The same for the same plan and number. A parameter that is active in only some of these trials is spread over all
    of them, and so has gaps.
    """
    search = plan.search
    count, place = search.startup_trials - len(search.first), number - len(search.first)
    if search.sampler not in MODELLED or not 0 <= place < count:
        return None
    return spread_configuration(plan.space, count, place, search.seed) or None


def spread_configuration(space: Space, count: int, place: int, seed: int) -> dict[str, Scalar]:
    """The configuration at ``place`` of ``count`` that are spread evenly over a space; empty where it draws nothing."""
    names = [parameter.name for parameter in space.parameters]
    if not names:
        return {}
    from scipy.stats.qmc import LatinHypercube  # takes most of a second to import

    places = LatinHypercube(d=len(names), rng=seed).random(count)[place]
    return space.suggest(QuantileTrial(dict(zip(names, map(float, places), strict=True)).__getitem__))
