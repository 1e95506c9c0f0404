"""What trials of a plan take: bytes of a checkpoint's weights, and for each branch of the space its memory."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import product
from math import ceil
from typing import TYPE_CHECKING, Any

from finesearch.plan import ADAPTATIONS, FIXED_RECIPES, Plan, Recipe
from finesearch.plan.space.branches import BASE_WEIGHTS
from finesearch.plan.space.domains import boundary_values
from finesearch.training.cost_model.activation_sizes import FP32, Pass
from finesearch.training.cost_model.memory_forecast import (
    BF16,
    PROCESS_BYTES,
    MemoryForecast,
    Model,
    Setting,
    decide_checkpointing,
    forecast,
)
from finesearch.training.cost_model.trained_parameters import trained_parameters

if TYPE_CHECKING:
    from finesearch.training.model.dimensions import Dimensions
    from finesearch.training.model.model_facts import ModelFacts

SIZED_BY = (BASE_WEIGHTS, "layers", "rank", "virtual_tokens", "targets", "dora", "encoder", "hidden_size", "projection")
"""Parameters of adaptations that decide how many weights train."""
EVALUATED = {False: 1024, True: 16384}
"""Tokens of an evaluation's pass on CPUs and on GPUs; see ``data/token_budget.py``."""


@dataclass(frozen=True)
class BranchSize:
    """The largest trial of one branch of the adaptation, or a baseline."""

    name: str
    recipe: Recipe
    setting: Setting
    memory: MemoryForecast


@dataclass(frozen=True)
class TrialSizes:
    """trained_bytes: of the weights that train, in fp32, in the largest trial. branches: the largest trial of each."""

    trained_bytes: int
    branches: tuple[BranchSize, ...]

    @property
    def worker_bytes(self) -> int:
        """What a worker of the largest trial takes of its node, besides its process."""
        return round(max((each.memory.host for each in self.branches), default=PROCESS_BYTES) - PROCESS_BYTES)


def largest_trial(
    plan: Plan,
    model: ModelFacts,
    strong: Recipe | None,
    unsupported: Collection[str],
    longest: int | None = None,
) -> TrialSizes:
    """Sizes of the largest trials that a search may run, baselines included.

    longest: tokens of the longest row; None is ``task.max_length``.
    """
    fixed = [(name, each) for name, each in FIXED_RECIPES.items() if name in plan.baselines and name not in unsupported]
    named = [*_extremes(plan), *fixed, *([("strong", strong)] if strong is not None else [])]
    measured = Model(model.dimensions, model.parameters, model.num_layers)
    tokens = min(longest or plan.task.max_length, model.positions or plan.task.max_length)
    found: dict[str, BranchSize] = {}
    for name, recipe in named:
        setting = setting_of(plan, recipe, tokens, model.dimensions, model.is_bf16)
        wanted = plan.training.activation_checkpointing if model.computes_again else "off"
        setting = replace(setting, checkpoints=decide_checkpointing(wanted, recipe, measured, setting, None))
        size = BranchSize(name, recipe, setting, forecast(recipe, measured, setting))
        if name not in found or size.memory.host + size.memory.device > sum_of(found[name]):
            found[name] = size
    most = max(
        (trained_parameters(each, model.dimensions, model.parameters, model.num_layers) for _, each in named), default=0
    )
    return TrialSizes(FP32 * most, tuple(found.values()))


def sum_of(size: BranchSize) -> float:
    return size.memory.host + size.memory.device


def setting_of(plan: Plan, recipe: Recipe, tokens: int, sizes: Dimensions, is_bf16: bool) -> Setting:
    """How a plan runs a recipe whose longest row has ``tokens`` tokens."""
    training, on_gpu = plan.training, plan.training.gpus_per_worker > 0
    in_bf16 = training.precision == "bf16" or (training.precision == "auto" and on_gpu)
    stored = str(recipe.adaptation_parameters.get(BASE_WEIGHTS, "auto"))
    if stored == "auto":
        stored = "bf16" if in_bf16 and is_bf16 and training.zero_stage < 3 else "fp32"
    rows = ceil(recipe.batch_size / training.divisor)
    fitting = max(1, (training.max_tokens_per_pass or rows * tokens) // tokens)
    run = Pass(
        rows=min(rows, fitting),
        tokens=tokens,
        compute=BF16 if in_bf16 or stored == "bf16" else FP32,
        on_gpu=on_gpu,
        dropout=sizes.dropout > 0,
        attention_dropout=sizes.attention_dropout > 0,
    )
    return Setting(
        run=run,
        frozen=stored,
        zero_stage=training.zero_stage,
        workers=training.workers_per_trial,
        accumulates=training.gradient_accumulation_steps > 1 or fitting < rows,
        evaluated=EVALUATED[on_gpu],
    )


def _extremes(plan: Plan) -> Iterable[tuple[str, Recipe]]:
    """For each branch of the adaptation, a recipe with each combination of the bounds of what sizes it.

    Of what does not size a trial any value will do.
    """
    space, training = plan.space, plan.training
    largest: dict[str, Any] = {
        "batch_size": space.largest("batch_size", training.batch_size),
        "rdrop": max(float(value or 0) for value in space.possible("rdrop", 0.0)),
    }
    for name in ("ema_decay", "swa_start"):
        given = [value for value in space.possible(name, None) if value is not None]
        if given:
            largest[name] = given[0]
            break
    for name in ("dropout", "attention_dropout"):
        possible = space.possible(name, None)
        largest[name] = None if None in possible else max(possible)
    for name, domains in space.selectors["adaptation"].items():
        branch = ADAPTATIONS[name]
        own = {key: boundary_values(domains[key]) for key in branch.parameters if key in domains}
        ends = {key: _ends(values) if key in SIZED_BY else values[:1] for key, values in own.items()}
        for optimizer in space.selectors["optimizer"]:
            for values in product(*ends.values()):
                parameters = dict(zip(ends, values, strict=True))
                yield name, Recipe(adaptation=name, adaptation_parameters=parameters, optimizer=optimizer, **largest)


def _ends(values: Sequence[Any]) -> list[Any]:
    """The least and the largest of the numbers among some values, and all others, each once.

    >>> _ends([4, 16, 8, None]), _ends([True, False])
    ([None, 4, 16], [True, False])
    """
    numbers = [value for value in values if isinstance(value, int | float) and not isinstance(value, bool)]
    others = [value for value in values if value not in numbers]
    return list(dict.fromkeys([*others, *((min(numbers), max(numbers)) if numbers else ())]))
