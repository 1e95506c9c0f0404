"""Checks of the place where runs are kept: written from here, found by every node, closed to strangers."""

from __future__ import annotations

import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from finesearch.doctor.finding import Finding, bad, ok, warn
from finesearch.errors import FinesearchError
from finesearch.places import results_home
from finesearch.secrets import redact, secret_in_url
from finesearch.storage import Place
from finesearch.tuning.cluster_facts import ClusterFacts

SHARE = (
    "Give --storage a folder that every node mounts (on clusters of our files: /mnt/shared/runs): what one node "
    "writes is read on others."
)


@dataclass(frozen=True)
class Probe:
    """A file that lies in the storage while nodes look for it."""

    folder: Path
    path: str
    content: str
    problem: str = ""
    """Why it could not be written; empty where it was."""

    @property
    def file(self) -> tuple[str, str] | None:
        return None if self.problem else (self.path, self.content)


@contextmanager
def probe_storage(folder: Path) -> Iterator[Probe]:
    """Write a file into the folder, or into what is there already of the way to it, and take it away again."""
    nearest = folder
    while not nearest.exists():
        nearest = nearest.parent
    path, content = nearest / f".finesearch-doctor-{secrets.token_hex(4)}", secrets.token_hex(8)
    problem = ""
    try:
        path.write_text(content)
    except OSError as error:
        problem = f"{nearest} cannot be written: {error.strerror or error}"
    try:
        yield Probe(folder, str(path), content, problem)
    finally:
        if not problem:
            path.unlink(missing_ok=True)


def storage_folder(storage: str) -> Path | None:
    """The folder of a plan's ``storage``; None where it is the URI of an object store."""
    folder = storage.removeprefix("file://")
    return None if "://" in folder else results_home() / folder


def storage_findings(storage: str, probe: Probe | None, cluster: ClusterFacts | None) -> list[Finding]:
    """Every check of storage."""
    secret = secret_in_url(storage)
    if secret is not None:
        advice = "Leave it out, and give keys by the environment of every node before Ray starts."
        return [bad("storage", f"{redact(storage)} holds {secret}, which would be written down", advice)]
    if probe is None:
        return [check_object_store(storage)]
    return [check_storage(probe, cluster), check_rights(probe.folder)]


def check_object_store(storage: str) -> Finding:
    """Whether this machine may write, read and delete there; a search tries every node before its first trial."""
    try:
        place = Place(storage)
        place.check()
    except FinesearchError as error:
        return bad("storage", redact(error.message), "See that it is there, and that every node may use it.")
    return ok("storage", f"{place.shown}: this machine writes and reads there")


def check_storage(probe: Probe, cluster: ClusterFacts | None) -> Finding:
    """This process can write, and every node finds what it wrote."""
    if probe.problem:
        return bad("storage", probe.problem, "Correct its rights, or choose another --storage.")
    if cluster is not None and cluster.without_storage:
        return bad("storage", f"{probe.folder} is not shared: not seen by {', '.join(cluster.without_storage)}", SHARE)
    others = 0 if cluster is None else len(cluster.nodes) - 1
    return ok("storage", f"{probe.folder} can be written" + (f", and {others} other node(s) see it" if others else ""))


def check_rights(folder: Path) -> Finding:
    """Nobody else may write checkpoints: loading one runs what is in it."""
    if folder.is_dir() and folder.stat().st_mode & stat.S_IWOTH:
        advice = f"chmod o-w {folder}: loading a checkpoint runs code that is in it."
        return warn("rights", f"everybody on this machine may write {folder}", advice)
    return ok("rights", f"{folder}: not open to everybody" if folder.is_dir() else f"{folder} will be made")
