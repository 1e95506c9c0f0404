"""What the largest trial of a plan takes: bytes of a checkpoint's weights, and of a worker's memory."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, Any

from finesearch.plan import ADAPTATIONS, FIXED_RECIPES, Plan, Recipe
from finesearch.plan.space.domains import boundary_values
from finesearch.training.cost_model.trained_parameters import trained_parameters

if TYPE_CHECKING:
    from finesearch.training.model.model_facts import ModelFacts

BF16, FP32 = 2, 4
OF_A_TRAINED_WEIGHT = 4
"""Numbers in fp32 for each weight that trains: itself, its gradient and two moments."""
SIZED_BY = ("layers", "rank", "virtual_tokens", "targets", "dora", "encoder", "hidden_size", "projection")
"""Parameters of adaptations that decide how many weights train."""


@dataclass(frozen=True)
class TrialSizes:
    """trained_bytes: of the weights that train, in fp32. worker_bytes: of a worker, besides its processes and what a
    forward pass needs: the base model, and its copies of what trains."""

    trained_bytes: int
    worker_bytes: int


def largest_trial(plan: Plan, model: ModelFacts, strong: Recipe | None, unsupported: Collection[str]) -> TrialSizes:
    """Sizes of the largest trial that a search may run, baselines included."""
    fixed = [recipe for name, recipe in FIXED_RECIPES.items() if name in plan.baselines and name not in unsupported]
    recipes = [*_extremes(plan), *fixed, *([strong] if strong is not None else [])]
    most = max(
        (trained_parameters(recipe, model.dimensions, model.parameters, model.num_layers) for recipe in recipes),
        default=0,
    )
    stays_bf16 = model.is_bf16 and plan.training.precision == "bf16" and plan.training.zero_stage < 3
    base = (BF16 if stays_bf16 else FP32) * model.parameters
    # ZeRO 3 divides every parameter among the workers, frozen ones too, and so copies them first.
    copied = base if plan.training.zero_stage == 3 else 0
    return TrialSizes(FP32 * most, base + copied + OF_A_TRAINED_WEIGHT * FP32 * most)


def _extremes(plan: Plan) -> Iterable[Recipe]:
    """For each branch of the adaptation, a recipe with each combination of the bounds of what sizes it.

    Of what does not size a trial any value will do.
    """
    for name, domains in plan.space.selectors["adaptation"].items():
        branch = ADAPTATIONS[name]
        own = {key: boundary_values(domains[key]) for key in branch.parameters if key in domains}
        given = {key: _ends(values) if key in SIZED_BY else values[:1] for key, values in own.items()}
        for values in product(*given.values()):
            yield Recipe(adaptation=name, adaptation_parameters=dict(zip(given, values, strict=True)))


def _ends(values: Sequence[Any]) -> list[Any]:
    """The least and the largest of the numbers among some values, and all others, each once.

    >>> _ends([4, 16, 8, None]), _ends([True, False])
    ([None, 4, 16], [True, False])
    """
    numbers = [value for value in values if isinstance(value, int | float) and not isinstance(value, bool)]
    others = [value for value in values if value not in numbers]
    return list(dict.fromkeys([*others, *((min(numbers), max(numbers)) if numbers else ())]))
