"""Checks, before anything runs, that a model supports the prompts of a search space."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

from finesearch.plan import ADAPTATIONS as BRANCHES
from finesearch.plan import Space
from finesearch.plan.space.domains import boundary_values
from finesearch.training.model.model_files import load_tokenizer

if TYPE_CHECKING:
    from finesearch.tasks import Task

from finesearch.training.model.model_config import read_config


def check_prompt_recipes(task: Task, recipes: Mapping[str, Mapping[str, Any]], folder: Path) -> None:
    """Check that the model supports each recipe's prompt.

    recipes: adaptation to its parameters, each with the values that the space can give it.

    Raises:
        ModelError: the task has no answers to choose from, or the model does not support it; says what would work.
    """
    from finesearch.training.prompting import check_prompting

    config, tokenizer = read_config(folder), load_tokenizer(folder)
    for name, parameters in recipes.items():
        for values in product(*parameters.values()):
            check_prompting(name, dict(zip(parameters, values, strict=True)), task, config, tokenizer)


def prompt_adaptations_of(space: Space) -> dict[str, dict[str, Any]]:
    """Every adaptation of a space that asks the model, with the values that its parameters can take."""
    found = {}
    for name, domains in space.selectors["adaptation"].items():
        branch = BRANCHES[name]
        if branch.is_prompted:
            found[name] = {
                key: boundary_values(domains[key]) if key in domains else (default,)
                for key, default in branch.defaults.items()
            }
    return found
