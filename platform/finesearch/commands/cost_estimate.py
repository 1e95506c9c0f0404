"""Estimates, before anything runs, how long a search may take and how large its prefix cache becomes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from finesearch.plan import FIXED_RECIPES, Plan, Recipe
from finesearch.plan.space.random_sampling import sample_recipes
from finesearch.plan.space.strong_recipe import configuration_of
from finesearch.training.cost_model.cost_model import CostModel, uses_prefix_cache

if TYPE_CHECKING:
    from finesearch.run.preflight import Preflight

DRAWS = 200
"""Number of recipes drawn for each branch and for the whole space, for ranges and means."""


def estimate(plan: Plan, preflight: Preflight, concurrent: int) -> list[str]:
    """Lines about time and prefix cache; measures the machine for about 0.3 s."""
    import torch

    from finesearch.training.cost_model.machine_benchmark import benchmark_machine

    if plan.training.gpus_per_worker > 0 and not torch.cuda.is_available():
        what = "time" if plan.budget.cost is None else "time and cost"
        return [f"  time     {what} not estimated: trials train on GPUs, and this machine has none"]
    workload = preflight.workload
    machine, measured = benchmark_machine(plan.training, workload.dimensions.hidden_size)
    model = CostModel(workload, plan.training, machine)
    fixed = [
        FIXED_RECIPES[name]
        for name in plan.baselines
        if name in FIXED_RECIPES and name not in preflight.unsupported_baselines
    ]
    if preflight.strong is not None and configuration_of(plan, preflight.strong) is None:
        fixed.append(preflight.strong)
    is_kept = uses_prefix_cache(plan.training)
    return [
        f"  time     an estimate, from {measured}, measured now:",
        *(f"             {line}" for line in branch_lines(plan, model, is_kept)),
        f"             {search_line(plan, model, fixed, concurrent, is_kept)}",
        *cost_lines(plan, model, fixed, is_kept),
        *([f"  cache    {cache_line(plan, model)}"] if is_kept else []),
    ]


def branch_lines(plan: Plan, model: CostModel, is_kept: bool) -> list[str]:
    """A line for each branch of the adaptation: seconds of a complete trial."""
    lines = []
    for branch in plan.space.selectors["adaptation"]:
        recipes = sample_recipes(plan.space, plan.training, DRAWS, branch)
        line = f"{branch}: {_between(model.seconds(recipe) for recipe in recipes)} a trial"
        if is_kept and any(map(model.cut, recipes)):
            line += f", {_between(model.seconds(recipe, cached=True) for recipe in recipes)} from the prefix cache"
        lines.append(line)
    return lines


def search_line(plan: Plan, model: CostModel, fixed: list[Recipe], concurrent: int, is_kept: bool) -> str:
    """Duration of the whole budget if no trial is stopped early."""
    from finesearch.run.progress import format_duration

    whole = _whole_seconds(plan, model, fixed, is_kept) / concurrent
    beside = " and the baselines" if fixed else ""
    line = f"{plan.budget.trials} trials to their end{beside}: about {format_duration(whole)} with {concurrent} at once"
    hours = plan.budget.hours
    return line if hours is None or whole <= 3600 * hours else f"{line}; the budget of {hours:g} h ends it before"


def cost_lines(plan: Plan, model: CostModel, fixed: list[Recipe], is_kept: bool) -> list[str]:
    """Cost in money of the whole budget if no trial is stopped early; nothing where the plan has no price."""
    cost = plan.budget.cost
    if cost is None:
        return []
    whole = cost.of(_whole_seconds(plan, model, fixed, is_kept) * plan.training.devices_per_trial)
    line = f"  cost     about {whole:,.2f} at {cost.per_device_hour:g} a device-hour, without idle devices"
    ends = cost.most is not None and whole > cost.most
    return [f"{line}; budget.cost.most ({cost.most:g}) ends it before" if ends else line]


def _whole_seconds(plan: Plan, model: CostModel, fixed: list[Recipe], is_kept: bool) -> float:
    """Seconds of the budget's trials and the fixed ones, one after another, if none is stopped early."""
    drawn = sample_recipes(plan.space, plan.training, DRAWS)
    mean = sum(model.seconds(recipe, cached=is_kept) for recipe in drawn) / len(drawn)
    return plan.budget.trials * mean + sum(map(model.seconds, fixed))


def cache_line(plan: Plan, model: CostModel) -> str:
    """Bytes of the frozen-layer outputs that the space can request, and the seconds of computing them once."""
    from finesearch.run.progress import format_duration

    cuts = sorted({model.cut(recipe) for recipe in sample_recipes(plan.space, plan.training, DRAWS)} - {0})
    if not cuts:
        return "nothing to keep: no branch leaves bottom layers as they are"
    sizes = [model.workload.prefix_bytes(cut) for cut in cuts]
    mean, most = sum(sizes) / len(cuts) / (1 << 30), sum(sizes) / (1 << 30)
    build = format_duration(model.prefix_build_seconds(cuts[-1]))
    return f"{mean:.3f} GiB for each of {len(cuts)} cut(s), {most:.2f} GiB in all; computed once a node, about {build}"


def _between(seconds: Iterable[float]) -> str:
    from finesearch.run.progress import format_duration

    found = sorted(seconds)
    low, high = format_duration(found[0]), format_duration(found[-1])
    return low if low == high else f"{low} to {high}"
