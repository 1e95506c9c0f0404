"""The plan that a run began with, what was chosen for its ``auto`` then, and the check that a resumed run has it."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

from finesearch.errors import RunConflictError
from finesearch.plan import Plan, parse_plan
from finesearch.run.run_files import damaged, parse_run_file
from finesearch.run.run_storage import CHOICES, PLAN, RunStorage


@dataclass(frozen=True)
class RunChoices:
    """What ``auto`` became when a run began: notes for its report, and the nodes that chose bf16 (none: fp32)."""

    notes: tuple[str, ...] = ()
    bf16_nodes: tuple[str, ...] = ()


def read_begun_plan(run_storage: RunStorage) -> Plan | None:
    """The plan that the run began with, every ``auto`` resolved; None for a new run.

    Raises:
        StorageError, PlanError: the file holds something else.
    """
    path = run_storage.folder / PLAN
    if not path.exists():
        return None
    try:
        return parse_plan(path.read_text(encoding="utf-8"), str(path))
    except UnicodeDecodeError as error:
        raise damaged(path, "the plan that this run began with", error) from error


def read_choices(run_storage: RunStorage) -> RunChoices:
    """What was chosen when the run began; empty for a run of an older version.

    Raises:
        StorageError: the file holds something else.
    """
    path = run_storage.folder / CHOICES
    if not path.exists():
        return RunChoices()
    return parse_run_file(path.read_bytes(), path, RunChoices, "what was chosen for this run when it began")


def resumed_plan(plan: Plan, begun: Plan, run_storage: RunStorage) -> Plan:
    """``plan`` with what ``auto`` stands for in a run that began as ``begun``; budget, report and storage are its own.

    Raises:
        RunConflictError: something other than budget, report or storage differs.
    """
    plan = plan.continuing(begun)
    differences = plan.differences(begun)
    if differences:
        listed = "\n  ".join(differences)
        raise RunConflictError(
            f"{run_storage.shown}: this run was begun with another plan:\n  {listed}\n"
            "A run goes on only with the plan it began with (its budget may change). Restore those values, give "
            "the new search a --name of its own, or start over with --fresh (the old run is set aside)."
        )
    return plan


def write_plan(plan: Plan, choices: RunChoices, run_storage: RunStorage) -> None:
    """Write the resolved plan into the run, and what was chosen; files that are the same already are left alone."""
    kept = {CHOICES: json.dumps(asdict(choices), indent=2) + "\n", PLAN: plan.to_yaml()}
    for name, text in kept.items():  # the plan last: a run that has one has begun
        path = run_storage.folder / name
        if not path.exists() or path.read_bytes() != text.encode():
            run_storage.write(name, text.encode())
