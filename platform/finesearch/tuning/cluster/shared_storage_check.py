"""Checks that every node of a cluster shares storage with the driver: each reads what the other wrote.

Ray does not notice otherwise: workers of two nodes with a private folder each both "succeed".
"""

from __future__ import annotations

import secrets
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from finesearch.errors import StorageError
from finesearch.storage.open_store import open_store
from finesearch.storage.store import Store

TIMEOUT_S = 120.0
PROBE = ".reach-"


@dataclass(frozen=True)
class NodeStorageAccess:
    """Result of one node: None where it reads and writes storage as the driver does, else what is wrong."""

    node: str
    problem: str | None


def check_shared_storage(storage: Store, say: Callable[[str], None] = lambda _: None) -> None:
    """Check that every present node reaches ``storage``, where the run is kept.

    Raises:
        StorageError: a node does not; the message names each and says what to do.
    """
    found = probe_shared_storage(storage)
    apart = [f"{each.node}: {each.problem}" for each in found if each.problem is not None]
    if apart:
        listed = "\n  ".join(apart)
        raise StorageError(
            f"storage {storage.shown}: {len(apart)} of {len(found) + 1} nodes do not reach it as this one does:\n"
            f"  {listed}\n"
            "With several nodes a run needs storage that each of them reaches under the same name: give --storage a "
            "folder that all of them mount (such as /mnt/shared/runs), or an s3:// or gs:// URI."
        )
    if found:
        say(f"storage is reached by all {len(found) + 1} nodes")


def probe_shared_storage(storage: Store) -> list[NodeStorageAccess]:
    """Results of all other nodes, by address; empty where there is none.

    Raises:
        StorageError: this node does not reach it.
    """
    here = ray.get_runtime_context().get_node_id()
    every: list[dict[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call]
    others = [node for node in every if node["Alive"] and node["NodeID"] != here]
    if not others:
        return []
    word = secrets.token_hex(16)
    mine = f"{PROBE}{word}"
    storage.write(mine, word.encode())
    try:
        probe = ray.remote(num_cpus=0, max_retries=0)(answer)
        asked = {
            node["NodeID"]: probe.options(
                scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
            ).remote(storage, mine, f"{mine}-{node['NodeID'][:12]}")
            for node in others
        }
        ray.wait(list(asked.values()), num_returns=len(asked), timeout=TIMEOUT_S)
        found = [
            NodeStorageAccess(
                _address(node), _verdict(storage, asked[node["NodeID"]], f"{mine}-{node['NodeID'][:12]}", word)
            )
            for node in others
        ]
    finally:
        for name in (mine, *(f"{mine}-{node['NodeID'][:12]}" for node in others)):
            storage.delete_file(name)
    return sorted(found, key=lambda each: each.node)


def check_attempt_is_seen(directory: str, attempt: int, patience_s: float = 10.0) -> None:
    """Check in a worker, possibly on a node that joined during the search, that it sees the driver's storage.

    Raises:
        StorageError: the attempt that was claimed for it in the trial's folder is not there.
    """
    folder = open_store(directory).folder
    if folder is None:
        return
    claimed = folder / "attempts" / str(attempt)
    end = time.monotonic() + patience_s  # a network mount may lag behind
    while not claimed.is_dir():
        if time.monotonic() > end:
            raise StorageError(
                f"storage {directory}: node {socket.gethostname()} does not see what the driver wrote there. "
                "With several nodes a run needs storage that each of them reaches under the same name: give --storage "
                "a folder that all of them mount (such as /mnt/shared/runs), or an s3:// or gs:// URI."
            )
        time.sleep(0.2)


def answer(storage: Store, asked: str, answered: str) -> str | None:
    """On another node: read what the driver wrote and write it under another name; returns what went wrong."""
    try:
        content = storage.read(asked)
        if content is None:
            return (
                "does not see what the driver writes there" if storage.existing() == storage else "has no such folder"
            )
        storage.write(answered, content)
    except (OSError, StorageError) as error:
        return str(error.__cause__ or error)
    return None


def _verdict(storage: Store, reference: Any, name: str, word: str) -> str | None:
    try:
        problem: str | None = ray.get(reference, timeout=0.1)
    except ray.exceptions.GetTimeoutError:
        return f"did not answer within {TIMEOUT_S:g} s"
    except ray.exceptions.RayError as error:
        return f"could not look: {str(error).splitlines()[0]}"
    if problem is None and storage.read(name) != word.encode():
        return "writes where the driver does not see it"
    return problem


def _address(node: dict[str, Any]) -> str:
    return f"{node['NodeManagerAddress']} ({node['NodeManagerHostname']})"
