"""Opens the study of a run and the search controller over it."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from finesearch.plan import FIXED_RECIPES, Plan, Recipe
from finesearch.plan.space.strong_recipe import STRONG, configuration_of
from finesearch.run.identity.run_identity import check_study
from finesearch.run.run_storage import RunStorage
from finesearch.tuning.controller.budget_usage import BudgetUsage
from finesearch.tuning.controller.search_controller import SearchController
from finesearch.tuning.controller.trial_queue import BASELINES, SEARCH
from finesearch.tuning.samplers.sampler_factory import make_pruner
from finesearch.tuning.study.journal import Direction, Journal
from finesearch.tuning.study.resumable_journal import ResumableJournal


@dataclass(frozen=True)
class SearchRequest:
    """One invocation: what to search, where results go, and how it was called."""

    plan: Plan
    reports: Path
    fresh: bool = False
    command: str = "finesearch search"


def open_search_controller(
    plan: Plan,
    run_storage: RunStorage | Path,
    concurrent_trials: int = 1,
    unsupported_baselines: Collection[str] = (),
    strong: Recipe | None = None,
    read_only: bool = False,
) -> SearchController:
    """Load the journal and build the search controller over it.

    run_storage: where the run lives; a folder stands for a run that lies in it and nowhere else. unsupported_baselines:
    baselines that cannot be run. strong: the strong recipe, where the plan has that baseline: the first trial of the
    search, if its space holds it. read_only: another driver may be working on the run; nothing of it is changed.
    """
    run_storage = run_storage if isinstance(run_storage, RunStorage) else RunStorage(plan.name, run_storage)
    study = run_storage.open_study()
    directions = [Direction(o.name, o.goal == "max") for o in plan.objectives]
    pruner = make_pruner(plan, plan.max_evaluations)
    search = ResumableJournal(study.storage, study.name, directions, pruner, read_only)
    baselines = Journal(study.storage, f"{study.name} (baselines)", directions[:1], read_only=read_only)
    check_study(run_storage, search, baselines, read_only)
    training = plan.training
    devices = training.devices_per_trial
    usage = BudgetUsage({SEARCH: search, BASELINES: baselines}, devices)
    fixed = {
        str(name): FIXED_RECIPES[name]
        for name in plan.baselines
        if name in FIXED_RECIPES and name not in unsupported_baselines
    }
    first = None if strong is None or not may_be_first(search) else configuration_of(plan, strong)
    if strong is not None and first is None:
        fixed[STRONG] = strong
    return SearchController(
        plan,
        search=search,
        baselines=baselines,
        run=run_storage.store,
        concurrent_trials=concurrent_trials,
        usage=usage,
        fixed=fixed,
        strong=first,
        read_only=read_only,
    )


def may_be_first(search: Journal) -> bool:
    """Whether the strong recipe is the first trial of a search: it is, or no trial was asked for yet."""
    trials = search.trials()
    return not trials or trials[0].label == STRONG
