"""Parts of a recipe that activation checkpointing excludes, since a block is computed twice in each step."""

from finesearch.plan.checks.zero_limits import is_enabled
from finesearch.plan.problems import Problems
from finesearch.plan.sections.training_section import TrainingPlan
from finesearch.plan.space.domains import boundary_values
from finesearch.plan.space.recipe import Recipe
from finesearch.plan.space.search_space import Space

ADAPTATION_REASONS = {
    "prefix_tuning": "its keys and values are handed to the blocks as a cache, which is left out there",
}
PARAMETER_REASONS = {
    "mixout": "it would draw other masks the second time",
}


def excluding_part(recipe: Recipe) -> str | None:
    """The part of a recipe that excludes activation checkpointing, and why; None without one."""
    if recipe.adaptation in ADAPTATION_REASONS:
        return f"{recipe.adaptation}: {ADAPTATION_REASONS[recipe.adaptation]}"
    found = (name for name in PARAMETER_REASONS if is_enabled(getattr(recipe, name)))
    return next((f"{name}: {PARAMETER_REASONS[name]}" for name in found), None)


def check_activation_checkpointing(space: Space, training: TrainingPlan, problems: Problems) -> None:
    """Add a problem for each part of the space that ``training.activation_checkpointing: on`` excludes."""
    if training.activation_checkpointing != "on":
        return
    parts = [(name, ADAPTATION_REASONS[name]) for name in space.selectors["adaptation"] if name in ADAPTATION_REASONS]
    parts += [
        (entry.name, PARAMETER_REASONS[entry.key])
        for entry in space.entries
        if entry.key in PARAMETER_REASONS and any(map(is_enabled, boundary_values(entry.domain)))
    ]
    for name, reason in parts:
        text = f"training.activation_checkpointing: expected off or auto beside {name}, got on: {reason}"
        problems.add(("training", "activation_checkpointing"), text, f"Set it to auto, or leave {name} out.")
