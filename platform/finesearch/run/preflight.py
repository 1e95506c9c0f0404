"""Preflight checks before anything is started: data, model, space against model, trackers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from finesearch.errors import DataError, ModelError
from finesearch.plan import ADAPTATIONS, FIXED_RECIPES, Plan, Recipe, Space
from finesearch.plan.auto_choices import PlanFacts, choose_metric_tokenizer, choose_target_scaling, resolve_auto
from finesearch.plan.space.default_space import LARGE
from finesearch.plan.space.strong_recipe import STRONG, strong_recipe

if TYPE_CHECKING:
    from finesearch.tasks import RawSplits, Task, TaskFacts
    from finesearch.training.cost_model.trial_sizes import TrialSizes
    from finesearch.training.cost_model.workload import Workload
    from finesearch.training.model.model_facts import ModelFacts


from importlib.util import find_spec

from finesearch.errors import InputError


@dataclass(frozen=True, kw_only=True)
class Preflight:
    """Facts about a plan's data and model."""

    plan: Plan
    """The plan with every ``auto`` resolved that data and model decide."""
    task: Task
    splits: RawSplits
    facts: TaskFacts
    model: ModelFacts
    warnings: tuple[str, ...]
    head_notes: tuple[str, ...] = ()
    unsupported_baselines: Mapping[str, str] = field(default_factory=dict)
    """Baselines that cannot be run with this task and model, and why."""
    strong: Recipe | None = None
    """The strong recipe, if it is among the plan's baselines."""
    choices: tuple[str, ...] = ()
    """Notes about what ``auto`` stands for."""

    @cached_property
    def sizes(self) -> TrialSizes:
        """What the largest trial takes, and a forecast of memory for each branch of the space."""
        from finesearch.training.cost_model.trial_sizes import largest_trial

        longest, unsupported = self.workload.longest_row, self.unsupported_baselines
        return largest_trial(self.plan, self.model, self.strong, unsupported, longest)

    @cached_property
    def workload(self) -> Workload:
        """What every trial processes, estimated from a sample of the rows."""
        from finesearch.training.cost_model.workload import measure_workload

        return measure_workload(self.task, self.splits, self.facts, self.model)

    @property
    def notes(self) -> tuple[str, ...]:
        return (*self.splits.notes, *self.facts.notes, *self.head_notes, *self.choices)


def run_preflight(plan: Plan, cache: Path, has_begun: bool = False) -> Preflight:
    """Read data and model, and resolve every ``auto`` that they decide.

    has_begun: the plan is that of a run that has begun, in which nothing is chosen any more.

    Raises:
        InputError: the first problem, with where, expected, got and what to do.
    """
    from finesearch.data import load_splits
    from finesearch.floors import unsupported_floors
    from finesearch.tasks import make_task
    from finesearch.tasks.few_rows import few_rows_warnings
    from finesearch.tasks.generation.generation_task import GenerationTask
    from finesearch.tasks.own_metric import check_own_metric, find_beside_plan
    from finesearch.tasks.truncation import truncation_remarks
    from finesearch.training.adaptations.space_check import check_recipe_space
    from finesearch.training.heads.space_heads import heads_of_space, missing_warnings, output_layer_notes
    from finesearch.training.heads.spelled_tokens import check_spelled_tokens
    from finesearch.training.model.activation_checkpointing import no_such_blocks
    from finesearch.training.model.added_tokens import task_tokenizer
    from finesearch.training.model.model_config import read_config
    from finesearch.training.model.model_facts import add_model_facts, inspect_model
    from finesearch.training.model.row_check import check_rows
    from finesearch.training.probing.probe_space_check import can_start_from_probe, check_probes
    from finesearch.training.weights.token_ids_check import check_token_ids

    check_tracking(plan)
    find_beside_plan(plan.task, plan.base)
    scaling: tuple[str, ...] = ()
    if not has_begun:
        plan, scaling = choose_target_scaling(plan)
    model = inspect_model(plan.longest_task, plan.base)
    if plan.training.activation_checkpointing == "on" and not model.computes_again:
        raise no_such_blocks(model.architecture)
    is_auto = plan.space.is_auto
    if not is_auto:
        check_recipe_space(plan.space, model)
    splits = load_splits(plan.task, plan.base, cache)
    task = make_task(plan.task)
    choices: tuple[str, ...] = ()
    if not has_begun:
        plan, choices = resolve_auto(plan, _plan_facts(splits, model), lambda space: _problem_of(space, task, model))
    if is_auto:  # the last adaptation stays in it, whether the model supports it or not
        check_recipe_space(plan.space, model)
    check_probes(task, plan.space, model)
    facts = task.read(splits)
    task = task.with_facts(facts)
    if isinstance(task, GenerationTask):
        facts, _ = add_model_facts(task, facts, Path(model.folder))
        if not has_begun:
            answers = task.answers(splits.plain_rows("validation"), facts)
            plan, note = choose_metric_tokenizer(plan, *task.choose_metric_tokenizer(answers))
            choices, task = (*choices, *note), make_task(plan.task).with_facts(facts)
            assert isinstance(task, GenerationTask), task.kind
            task.check_metric(answers)
    if plan.task.has_own_metric:
        check_own_metric(task, task.answers(splits.plain_rows("validation"), facts), facts)
    token_notes = check_token_ids(task, splits, facts, Path(model.folder))
    check_rows(task, splits, facts, Path(model.folder))
    spelled = check_spelled_tokens(task, splits, facts, Path(model.folder), read_config(Path(model.folder)))
    tokenizer, _ = task_tokenizer(Path(model.folder), facts)
    cut_notes, cut_warnings = truncation_remarks(task.truncations(splits, tokenizer, facts))
    facts = facts.model_copy(update={"notes": (*facts.notes, *spelled, *cut_notes)})
    unsupported = {
        **unsupported_floors(plan.task, plan.floors),
        **_check_prompts(plan, task, facts, Path(model.folder)),
        **_too_large(plan, model),
    }
    strong = None
    if STRONG in plan.baselines:
        strong = strong_recipe(plan, _plan_facts(splits, model), can_start_from_probe(task, Path(model.folder)))
    heads = heads_of_space(plan.space, model)
    return Preflight(
        plan=plan,
        task=task,
        splits=splits,
        facts=facts,
        model=model,
        warnings=(
            *plan.warnings,
            *missing_warnings(heads, model),
            *few_rows_warnings(task, splits, facts),
            *cut_warnings,
        ),
        head_notes=(
            *dict.fromkeys(head.note for head in heads if head.note),
            *output_layer_notes(task, facts, heads, Path(model.folder)),
            *token_notes,
        ),
        unsupported_baselines=unsupported,
        strong=strong,
        choices=(*scaling, *choices),
    )


def _too_large(plan: Plan, model: ModelFacts) -> dict[str, str]:
    """Baselines that train more of the model than anybody would expect of a search over it, and why."""
    if "ordinary" not in plan.baselines or model.parameters <= LARGE:
        return {}
    return {
        "ordinary": f"it trains all of {model.parameters / 1e9:.1f} G parameters, beyond {LARGE / 1e9:g} G; put the "
        "branch full into the space to try that"
    }


def _plan_facts(splits: RawSplits, model: ModelFacts) -> PlanFacts:
    return PlanFacts(rows=len(splits["train"]), num_layers=model.num_layers, parameters=model.parameters)


def _problem_of(space: Space, task: Task, model: ModelFacts) -> str | None:
    """Why task and model do not support a space."""
    from finesearch.training.adaptations.space_check import check_recipe_space
    from finesearch.training.probing.probe_space_check import check_probes

    try:
        check_recipe_space(space, model)
        check_probes(task, space, model)
    except ModelError as error:
        return error.message
    return None


def _check_prompts(plan: Plan, task: Task, facts: TaskFacts, folder: Path) -> dict[str, str]:
    """Baselines that cannot be run, and why.

    Raises:
        ModelError, DataError: a prompt of the space does not fit the model, or verbalizers do not fit the data.
    """
    from finesearch.tasks.prompting import make_prompt_task
    from finesearch.training.prompting.prompt_space_check import check_prompt_recipes, prompt_adaptations_of

    asking = prompt_adaptations_of(plan.space)
    if asking or plan.task.verbalizers:
        check_prompt_recipes(task, asking, folder)
        make_prompt_task(task, facts)
    baselines = [name for name in plan.baselines if name in FIXED_RECIPES]
    unsupported_baselines: dict[str, str] = {}
    for name in baselines:
        recipe = FIXED_RECIPES[name]
        if not ADAPTATIONS[recipe.adaptation].is_prompted:
            continue
        try:
            given = {key: (value,) for key, value in recipe.adaptation_parameters.items()}
            check_prompt_recipes(task, {recipe.adaptation: given}, folder)
            make_prompt_task(task, facts)
        except (ModelError, DataError) as error:
            unsupported_baselines[str(name)] = error.message
    return unsupported_baselines


def check_tracking(plan: Plan) -> None:
    """Check that the packages of the plan's trackers are installed.

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
