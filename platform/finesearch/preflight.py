"""All that can be found wrong before anything is started: data, model, space against model, disk."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from finesearch.errors import DataError, DiskFullError, ModelError, StorageError
from finesearch.homes import keyed, state_home
from finesearch.places import results_home
from finesearch.plan import ADAPTATIONS, FIXED_RECIPES, Plan
from finesearch.storage import Place, is_remote
from finesearch.tracking import check_tracking

if TYPE_CHECKING:
    from finesearch.tasks import Facts, RawSplits, Task
    from finesearch.training import ModelFacts

RESUMABLE_COPIES = 7  # of a running trial: best (1), last with two moments (3), the next one being written (3)
AVERAGED_COPIES = 2  # the raw weights beside averaged ones, in the last checkpoint and in the next one
SLACK_BYTES = 200_000_000


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
    from finesearch.training import check_recipe_space, check_rows, inspect_model
    from finesearch.training.model_facts import meet_model

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
    from finesearch.training import asking_of, check_asking

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


def run_folder(plan: Plan) -> Path:
    """Where the run lives on this machine; a relative ``storage`` starts from :func:`~finesearch.places.results_home`.

    Of a run in an object store it is the working folder of whoever drives it here.

    Raises:
        PlanError: ``storage`` is a URI that cannot be used.
    """
    place = run_place(plan)
    if place is not None:
        return state_home() / "runs" / keyed(plan.name, place.uri)
    return results_home() / plan.storage.removeprefix("file://") / plan.name


def run_place(plan: Plan) -> Place | None:
    """Where the run lives in an object store; None where ``storage`` is a folder.

    Raises:
        PlanError: ``storage`` is a URI that cannot be used.
    """
    return Place(plan.storage).child(plan.name) if is_remote(plan.storage) else None


def prepare_folder(folder: Path) -> None:
    """Make the run folder and try it.

    Raises:
        StorageError: it cannot be made or written.
    """
    probe = folder / f".probe-{os.getpid()}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe.write_bytes(b"finesearch")
        probe.unlink()
    except OSError as error:
        raise StorageError(
            f"storage {folder}: cannot be written: {error.strerror or error}. Expected a folder that this user "
            "may write. "
            "Choose another with --storage or `storage:` in the plan."
        ) from error


def disk_need(plan: Plan, model_bytes: int, concurrent_trials: int) -> int:
    """Bytes that checkpoints take at most: running trials, the ranked ones and one baseline."""
    kept = plan.report.top + 1 + len(plan.objectives)
    averaged = any(entry.key in ("ema_decay", "swa_start") for entry in plan.space.entries)
    copies = RESUMABLE_COPIES + (AVERAGED_COPIES if averaged else 0)
    return concurrent_trials * copies * model_bytes + kept * model_bytes + SLACK_BYTES


def check_disk(plan: Plan, folder: Path, model_bytes: int, concurrent_trials: int) -> int:
    """Refuse before the disk fills; the bytes needed.

    Raises:
        DiskFullError: what is free, or ``budget.disk_gib``, is less than checkpoints may take.
    """
    need, gib = disk_need(plan, model_bytes, concurrent_trials), 1 << 30
    limit, name = _room(plan, folder), "the disk has free"
    if plan.budget.disk_gib is not None and plan.budget.disk_gib * gib < limit:
        limit, name = int(plan.budget.disk_gib * gib), "budget.disk_gib allows"
    if need > limit:
        raise DiskFullError(
            f"{folder}: checkpoints of {concurrent_trials} running and {plan.report.top} ranked trials may take "
            f"{need / gib:.2f} GiB; {name} {limit / gib:.2f} GiB. Free space, choose another --storage, or lower "
            "search.concurrent_trials or report.top."
        )
    return need


def _room(plan: Plan, folder: Path) -> float:
    """Bytes that checkpoints may take where they are kept; of an object store nobody knows."""
    if run_place(plan) is not None:
        return float("inf")
    where = folder
    while not where.exists():
        where = where.parent
    held = sum(path.stat().st_size for path in (folder / "checkpoints").rglob("*") if path.is_file())
    return shutil.disk_usage(where).free + held
