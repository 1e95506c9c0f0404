"""Methods that a DeepSpeed ZeRO stage rules out, since it partitions tensors among workers."""

from collections.abc import Iterator
from dataclasses import dataclass

from finesearch.errors import PlanError
from finesearch.plan.problems import Problems
from finesearch.plan.sections.training_section import TrainingPlan
from finesearch.plan.space.domains import boundary_values
from finesearch.plan.space.parameters import Scalar
from finesearch.plan.space.recipe import Recipe
from finesearch.plan.space.search_space import Space


@dataclass(frozen=True)
class ZeroStageLimit:
    """The largest ZeRO stage with which a method works, and why no larger one does."""

    largest_stage: int
    reason: str


OPTIMIZER_LIMITS: dict[str, ZeroStageLimit] = {
    "adafactor": ZeroStageLimit(
        0, "its moments are factored by rows and columns, and ZeRO 1 to 3 flatten all matrices into one"
    )
}
"""Limits of branches of ``optimizer``."""

_NEEDS_WHOLE_WEIGHTS = "it needs whole weights on every worker, and ZeRO 3 leaves each of them a part"
PARAMETER_LIMITS: dict[str, ZeroStageLimit] = {
    **{name: ZeroStageLimit(2, _NEEDS_WHOLE_WEIGHTS) for name in ("l2sp", "mixout", "ema_decay", "swa_start")},
    "layer_drop": ZeroStageLimit(
        2, "ZeRO 3 fetches weights in the order of the first step, and skipped layers change it"
    ),
}
"""Limits of parameters of the space; when off (0 or null), they work with every stage."""


def check_zero_stage(space: Space, training: TrainingPlan, problems: Problems) -> None:
    """Add a problem for each part of the space that ``training.zero_stage`` rules out."""
    for branch in space.selectors["optimizer"]:
        if (limit := OPTIMIZER_LIMITS.get(branch)) and training.zero_stage > limit.largest_stage:
            text, advice = _limit_message(f"space.optimizer: {branch}", limit, training.zero_stage)
            problems.add(("space", "optimizer"), text, advice)
    for entry in space.entries:
        limit = PARAMETER_LIMITS.get(entry.key)
        if limit and training.zero_stage > limit.largest_stage and any(map(is_enabled, boundary_values(entry.domain))):
            text, advice = _limit_message(f"space.{entry.name}", limit, training.zero_stage)
            problems.add(("space", entry.name.split(".")[0]), text, advice)


def require_zero_stage_support(recipe: Recipe, zero_stage: int) -> None:
    """Check one recipe before it runs.

    Raises:
        PlanError: the stage rules out a part of the recipe.
    """
    for name, limit in _limits(recipe):
        if zero_stage > limit.largest_stage:
            text, advice = _limit_message(name, limit, zero_stage)
            raise PlanError(f"{text}.\n  {advice}")


def is_enabled(value: Scalar) -> bool:
    """Whether a method's parameter has an effect at this value.

    >>> is_enabled(0.0), is_enabled(None), is_enabled(0.1)
    (False, False, True)
    """
    return value is not None and value != 0


def _limits(recipe: Recipe) -> Iterator[tuple[str, ZeroStageLimit]]:
    if recipe.optimizer in OPTIMIZER_LIMITS:
        yield f"optimizer {recipe.optimizer}", OPTIMIZER_LIMITS[recipe.optimizer]
    for name, limit in PARAMETER_LIMITS.items():
        if is_enabled(getattr(recipe, name)):
            yield name, limit


def _limit_message(what: str, limit: ZeroStageLimit, zero_stage: int) -> tuple[str, str]:
    stages = (
        "training.zero_stage 0" if limit.largest_stage == 0 else f"a training.zero_stage up to {limit.largest_stage}"
    )
    text = f"{what}: expected {stages}, got {zero_stage}: {limit.reason}"
    return text, f"Set training.zero_stage to {limit.largest_stage}, or leave it out of the space."
