"""Where a run lies: its folder on this machine, and its place in an object store if it has one."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from finesearch.errors import StorageError
from finesearch.plan import Plan
from finesearch.storage.local_dirs import keyed, results_home, state_home
from finesearch.storage.object_store import Place, is_remote

if TYPE_CHECKING:
    pass


def run_folder(plan: Plan) -> Path:
    """Where the run lives on this machine; a relative ``storage`` starts from ``results_home()``.

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
