"""Checks that a resumed run has the plan that it began with."""

from __future__ import annotations

from finesearch.errors import RunConflictError
from finesearch.plan import Plan, parse_plan
from finesearch.run.run_storage import PLAN, RunStorage


def write_or_check_plan(plan: Plan, run_storage: RunStorage) -> None:
    """Write the resolved plan into a new run; check a resumed run against the plan it began with.

    Raises:
        RunConflictError: something other than budget, report or storage differs.
    """
    path = run_storage.folder / PLAN
    if path.exists():
        differences = plan.differences(parse_plan(path.read_text(encoding="utf-8"), str(path)))
        if differences:
            listed = "\n  ".join(differences)
            raise RunConflictError(
                f"{run_storage.shown}: this run was begun with another plan:\n  {listed}\n"
                "A run goes on only with the plan it began with (its budget may change). Restore those values, give "
                "the new search a --name of its own, or start over with --fresh (the old run is set aside)."
            )
        if path.read_bytes() == plan.to_yaml().encode():
            return
    run_storage.write(PLAN, plan.to_yaml().encode())
