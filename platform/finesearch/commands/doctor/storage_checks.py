"""Storage checks: writable from here, shared by every node, not writable by others."""

from __future__ import annotations

import stat
from dataclasses import dataclass
from pathlib import Path

from finesearch.commands.doctor.finding import Finding, bad, ok, warn
from finesearch.errors import FinesearchError
from finesearch.redaction import redact, secret_in_url
from finesearch.storage.local_dirs import results_home
from finesearch.storage.open_store import open_store
from finesearch.storage.store import Store
from finesearch.tuning.cluster.node_inspection import ClusterFacts

SHARE = (
    "Give --storage a folder that every node mounts (on clusters of our files: /mnt/shared/runs), or an s3:// or gs:// "
    "URI: what one node writes is read on others."
)


@dataclass(frozen=True)
class StorageProbe:
    """Result of writing to storage from this machine."""

    name: str
    usable: Store | None = None
    """The storage, or its nearest existing parent folder; None where it cannot be written from here."""
    folder: Path | None = None
    problem: str = ""
    """Why it cannot be written from here; empty where it can."""


def try_storage(storage: str) -> StorageProbe:
    """Write a file to a plan's ``storage`` and delete it again."""
    secret = secret_in_url(storage)
    if secret is not None:
        return StorageProbe(redact(storage), problem=f"{redact(storage)} holds {secret}, which would be written down")
    try:
        store = there = open_store(storage, results_home())
        there = store.existing()
        there.probe()
    except OSError as error:
        problem = f"{there.shown} cannot be written: {error.strerror or error}"
        return StorageProbe(store.shown, None, store.folder, problem)
    except FinesearchError as error:
        return StorageProbe(redact(storage), problem=redact(error.message))
    return StorageProbe(store.shown, there, store.folder)


def storage_findings(storage_probe: StorageProbe, cluster: ClusterFacts | None) -> list[Finding]:
    """Findings of every storage check."""
    return [
        check_storage(storage_probe, cluster),
        *([check_rights(storage_probe.folder)] if storage_probe.folder is not None else []),
    ]


def check_storage(storage_probe: StorageProbe, cluster: ClusterFacts | None) -> Finding:
    """This process can write, and every node reaches what it wrote."""
    if storage_probe.problem:
        advice = "Correct its rights, or choose another --storage; keys come from the environment of every node."
        return bad("storage", storage_probe.problem, advice)
    if cluster is not None and cluster.without_storage:
        return bad("storage", f"{storage_probe.name} is not shared: {'; '.join(cluster.without_storage)}", SHARE)
    others = 0 if cluster is None else len(cluster.nodes) - 1
    return ok(
        "storage", f"{storage_probe.name} can be written" + (f", and {others} other node(s) see it" if others else "")
    )


def check_rights(folder: Path) -> Finding:
    """Nobody else may write checkpoints: loading one runs code in it."""
    if folder.is_dir() and folder.stat().st_mode & stat.S_IWOTH:
        advice = f"chmod o-w {folder}: loading a checkpoint runs code that is in it."
        return warn("rights", f"everybody on this machine may write {folder}", advice)
    return ok("rights", f"{folder}: not open to everybody" if folder.is_dir() else f"{folder} will be made")
