"""Opens the study of a run and the search controller over it."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from finesearch.plan import FIXED_RECIPES, Plan
from finesearch.run.run_storage import RunHome
from finesearch.tuning.controller.budget_usage import Spending
from finesearch.tuning.controller.search_controller import BASELINES, SEARCH, Conductor
from finesearch.tuning.samplers.sampler_factory import make_pruner
from finesearch.tuning.study.journal import Direction, Journal


@dataclass(frozen=True)
class Request:
    """One invocation: what to search, where results go, and how it was called."""

    plan: Plan
    reports: Path
    fresh: bool = False
    command: str = "finesearch search"


def open_conductor(
    plan: Plan,
    home: RunHome | Path,
    concurrent_trials: int = 1,
    unfit: Collection[str] = (),
) -> Conductor:
    """The journal, loaded, and the policy over it.

    home: where the run lives; a folder stands for a run that lies in it and nowhere else. unfit: baselines that cannot
    be run.
    """
    home = home if isinstance(home, RunHome) else RunHome(plan.name, home, None, joins=False)
    storage, study = home.open_study()
    directions = [Direction(o.name, o.goal == "max") for o in plan.objectives]
    search = Journal(storage, study, directions, make_pruner(plan, plan.max_evaluations))
    baselines = Journal(storage, f"{study} (baselines)", directions[:1])
    training = plan.training
    devices = training.workers_per_trial * (training.gpus_per_worker or training.cpus_per_worker)
    spending = Spending({SEARCH: search, BASELINES: baselines}, devices)
    fixed = {
        str(name): FIXED_RECIPES[name] for name in plan.report.baselines if name in FIXED_RECIPES and name not in unfit
    }
    return Conductor(plan, search, baselines, home.storage, concurrent_trials, spending, fixed)
