"""All that can be found wrong before anything is started: data, model, space against model, disk."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from finesearch.errors import DataError, ModelError
from finesearch.plan import ADAPTATIONS, FIXED_RECIPES, Plan

if TYPE_CHECKING:
    from finesearch.tasks import Facts, RawSplits, Task
    from finesearch.training.model.model_facts import ModelFacts


from importlib.util import find_spec

from finesearch.errors import InputError


@dataclass(frozen=True)
class Preflight:
    """What was found out about a plan's data and model."""

    task: Task
    splits: RawSplits
    facts: Facts
    model: ModelFacts
    warnings: tuple[str, ...]
    unfit: Mapping[str, str] = field(default_factory=dict)
    """Baselines that cannot be run with this task and model, and why."""

    @property
    def notes(self) -> tuple[str, ...]:
        return (*self.splits.notes, *self.facts.notes)


def inspect(plan: Plan, cache: Path) -> Preflight:
    """Read data and model.

    Raises:
        InputError: the first thing that cannot work, with where, expected, got and what to do.
    """
    from finesearch.data import load_splits
    from finesearch.tasks import make_task
    from finesearch.training.adaptations.space_check import check_recipe_space
    from finesearch.training.model.model_facts import inspect_model, meet_model
    from finesearch.training.model.row_check import check_rows

    check_tracking(plan)
    model = inspect_model(plan.longest_task, plan.base)
    check_recipe_space(plan.space, model)
    splits = load_splits(plan.task, plan.base, cache)
    task = make_task(plan.task)
    facts = task.read(splits)
    if task.is_generated:
        facts, tokenizer = meet_model(task, facts, Path(model.folder))
    check_rows(task, splits, facts, Path(model.folder))
    if task.is_generated:
        notes = (*facts.notes, *task.length_notes(splits, tokenizer, facts))
        facts = facts.model_copy(update={"notes": notes})
    return Preflight(task, splits, facts, model, plan.warnings, _check_prompts(plan, task, facts, Path(model.folder)))


def _check_prompts(plan: Plan, task: Task, facts: Facts, folder: Path) -> dict[str, str]:
    """Baselines that cannot be run, and why.

    Raises:
        ModelError, DataError: a prompt of the space cannot be put to the model, or verbalizers do not fit the data.
    """
    from finesearch.tasks.prompting import prompting_of
    from finesearch.training.prompting.prompt_space_check import asking_of, check_asking

    asking = asking_of(plan.space)
    if asking or plan.task.verbalizers:
        check_asking(task, asking, folder)
        prompting_of(task, facts)
    baselines = [name for name in plan.report.baselines if name in FIXED_RECIPES]
    unfit: dict[str, str] = {}
    for name in baselines:
        recipe = FIXED_RECIPES[name]
        if ADAPTATIONS[recipe.adaptation].trains:
            continue
        try:
            given = {key: (value,) for key, value in recipe.adaptation_parameters.items()}
            check_asking(task, {recipe.adaptation: given}, folder)
            prompting_of(task, facts)
        except (ModelError, DataError) as error:
            unfit[str(name)] = error.message
    return unfit


def check_tracking(plan: Plan) -> None:
    """
    Raises:
        InputError: a package is missing; all of them are named.
    """
    wanted = {"mlflow": plan.tracking.mlflow is not None, "wandb": plan.tracking.wandb is not None}
    missing = [name for name, is_wanted in wanted.items() if is_wanted and find_spec(name) is None]
    if missing:
        raise InputError(
            "\n".join(
                f"tracking.{name}: expected the package {name}, and it is not installed. "
                f"Run pip install '.[tracking]' (or pip install {name}), or leave tracking.{name} out."
                for name in missing
            )
        )
