"""Checks of the place where runs are kept: written from here, found by every node, closed to strangers."""

from __future__ import annotations

import secrets
import stat
from dataclasses import dataclass
from pathlib import Path

from finesearch.commands.doctor.finding import Finding, bad, ok, warn
from finesearch.errors import FinesearchError
from finesearch.redaction import redact, secret_in_url
from finesearch.storage.local_dirs import results_home
from finesearch.storage.object_store import Place, is_remote
from finesearch.tuning.cluster.node_inspection import ClusterFacts

SHARE = (
    "Give --storage a folder that every node mounts (on clusters of our files: /mnt/shared/runs), or an s3:// or gs:// "
    "URI: what one node writes is read on others."
)


@dataclass(frozen=True)
class StorageProbe:
    """Storage as this machine found it. ``there`` is the place, or the folder or what is there of the way to it."""

    name: str
    there: Path | Place | None
    folder: Path | None = None
    problem: str = ""
    """Why it cannot be written from here; empty where it can."""

    @property
    def usable(self) -> Path | Place | None:
        return None if self.problem else self.there


def try_storage(storage: str) -> StorageProbe:
    """Write into a plan's ``storage`` and take it away again."""
    secret = secret_in_url(storage)
    if secret is not None:
        return StorageProbe(
            redact(storage), None, problem=f"{redact(storage)} holds {secret}, which would be written down"
        )
    if is_remote(storage):
        return _try_place(storage)
    folder = results_home() / storage.removeprefix("file://")
    nearest = folder
    while not nearest.exists():
        nearest = nearest.parent
    probe = nearest / f".finesearch-doctor-{secrets.token_hex(4)}"
    try:
        probe.write_bytes(b"finesearch")
        probe.unlink()
    except OSError as error:
        return StorageProbe(str(folder), nearest, folder, f"{nearest} cannot be written: {error.strerror or error}")
    return StorageProbe(str(folder), nearest, folder)


def _try_place(storage: str) -> StorageProbe:
    try:
        place = Place(storage)
        place.check()
    except FinesearchError as error:
        return StorageProbe(redact(storage), None, problem=redact(error.message))
    return StorageProbe(place.shown, place)


def storage_findings(storage_probe: StorageProbe, cluster: ClusterFacts | None) -> list[Finding]:
    """Every check of storage."""
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
    """Nobody else may write checkpoints: loading one runs what is in it."""
    if folder.is_dir() and folder.stat().st_mode & stat.S_IWOTH:
        advice = f"chmod o-w {folder}: loading a checkpoint runs code that is in it."
        return warn("rights", f"everybody on this machine may write {folder}", advice)
    return ok("rights", f"{folder}: not open to everybody" if folder.is_dir() else f"{folder} will be made")
