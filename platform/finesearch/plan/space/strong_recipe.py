"""The strong recipe: the best published way to fine-tune once, sized to the model and the rows; a baseline."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from finesearch.plan.auto_choices import PlanFacts, auto_epochs
from finesearch.plan.plan import Plan
from finesearch.plan.space.default_space import LARGE, MEDIUM, SMALL
from finesearch.plan.space.domains import Fixed, boundary_values
from finesearch.plan.space.parameters import PARAMETERS, Scalar
from finesearch.plan.space.recipe import Recipe
from finesearch.plan.space.search_space import Space

STRONG = "strong"
WARMUP_FRACTION = 0.1
"""Mosbach et al., 2021, "On the stability of fine-tuning BERT"."""
WEIGHT_DECAY = 0.01
"""Devlin et al., 2019."""
DROPOUT = 0.1
"""What nearly all models come with; taken where a space draws dropout and does not hold the model's own."""


def strong_recipe(plan: Plan, facts: PlanFacts, can_probe: bool) -> Recipe:
    """The strong recipe for a plan's task, model and rows.

    Where task and model allow it (``can_probe``), the output layer is solved first (Kumar et al., 2022, "Fine-tuning
    can distort pretrained features"). Then all weights train over enough epochs for 300 optimizer steps (Zhang et al.,
    2021; see ``auto_epochs``), with a tenth of them as warm-up and linear decay (Mosbach et al., 2021). Learning rate:
    1e-4 for compact models (Turc et al., 2019), 2e-5 for base models (Mosbach et al., 2021), 1e-5 for large ones (Liu
    et al., 2019). Above two billion parameters, low-rank matrices with 2e-4 (Dettmers et al., 2023). What these papers
    do not speak of is as the plan has it: the batch size, early stopping, and how many epochs a trial may take where
    the space searches them.
    """
    training = plan.training
    settings: dict[str, Any] = {
        "warmup_fraction": WARMUP_FRACTION,
        "weight_decay": WEIGHT_DECAY,
        "epochs": _epochs(plan, facts.rows),
        "batch_size": training.batch_size,
        "early_stopping_patience": _fixed(plan.space, "early_stopping_patience"),
        "head_init": "probe" if can_probe else "random",
    }
    if plan.task.pooling is not None:
        settings["pooling"] = plan.task.pooling
    if facts.parameters > LARGE:
        return Recipe(adaptation="lora", learning_rate=2e-4, **settings)
    rate = 1e-4 if facts.parameters <= SMALL else 2e-5 if facts.parameters <= MEDIUM else 1e-5
    return Recipe(learning_rate=rate, **settings)


def configuration_of(plan: Plan, recipe: Recipe) -> dict[str, Scalar] | None:
    """The flat configuration that gives a recipe in a plan's space; None where the space does not hold it, or where
    the sampler lists what it tries.

    Dropout that the recipe leaves to the model is ``DROPOUT`` where the space draws it and does not hold null.
    """
    space = plan.space
    if plan.search.sampler == "grid":
        return None
    branches = {name: str(getattr(recipe, name)) for name in space.selectors}
    if any(branch not in space.selectors[name] for name, branch in branches.items()):
        return None
    found: dict[str, Scalar] = {}
    for parameter in space.parameters:
        if not parameter.is_active(branches):
            continue
        value = _value(recipe, parameter.name, parameter.key)
        if parameter.key == "dropout" and value is None and not parameter.domain.contains(None):
            value = DROPOUT
            recipe = recipe.model_copy(update={"dropout": DROPOUT})
        if not parameter.domain.contains(value):
            return None
        found[parameter.name] = value
    return found if space.recipe(found, plan.training, plan.task.pooling) == recipe else None


def _value(recipe: Recipe, name: str, key: str) -> Any:
    """The value of a drawn parameter, by its flat name and its key in the registry."""
    if key in PARAMETERS or name == key:
        return getattr(recipe, key)
    own: Mapping[str, Any] = getattr(recipe, f"{name.split('.')[0]}_parameters")
    return own[key]


def _epochs(plan: Plan, rows: int) -> int:
    """Enough epochs for the rows, or the nearest bound where the space searches fewer or more."""
    wanted, _ = auto_epochs(rows, plan.training.batch_size)
    domain = plan.space.values.get("epochs")
    if domain is None or isinstance(domain, Fixed) or domain.contains(wanted):
        return wanted
    return min((int(value) for value in boundary_values(domain) if value), key=lambda value: abs(value - wanted))


def _fixed(space: Space, key: str) -> Any:
    """The one value that a space gives a root parameter; None where it gives none, or several."""
    domain = space.values.get(key)
    return domain.value if isinstance(domain, Fixed) else None
