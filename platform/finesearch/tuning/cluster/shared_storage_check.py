"""Whether every node of a cluster reaches storage: what the driver writes there each of them reads, and the other way
round. Ray does not notice: workers of two nodes with a private folder each both "succeed"."""

from __future__ import annotations

import os
import secrets
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from finesearch.errors import StorageError
from finesearch.storage.object_store import Place, is_remote

TIMEOUT_S = 120.0
PROBE = ".reach-"


@dataclass(frozen=True)
class NodeStorageAccess:
    """What one node found: None where it reads and writes storage as the driver does, else what is wrong."""

    node: str
    problem: str | None


def check_shared_storage(storage: Path | Place, say: Callable[[str], None] = lambda _: None) -> None:
    """See that every node that is there now reaches ``storage``, the run's folder or place.

    Raises:
        StorageError: one does not; the message names each and says what to do.
    """
    found = probe_shared_storage(storage)
    apart = [f"{each.node}: {each.problem}" for each in found if each.problem is not None]
    if apart:
        where = storage.shown if isinstance(storage, Place) else str(storage)
        listed = "\n  ".join(apart)
        raise StorageError(
            f"storage {where}: {len(apart)} of {len(found) + 1} nodes do not reach it as this one does:\n  {listed}\n"
            "With several nodes a run needs storage that each of them reaches under the same name: give --storage a "
            "folder that all of them mount (such as /mnt/shared/runs), or an s3:// or gs:// URI."
        )
    if found:
        say(f"storage is reached by all {len(found) + 1} nodes")


def probe_shared_storage(storage: Path | Place) -> list[NodeStorageAccess]:
    """What every other node found, in the order of their addresses; nothing where there is no other.

    Raises:
        StorageError: this node itself does not reach it.
    """
    here = ray.get_runtime_context().get_node_id()
    every: list[dict[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call]
    others = [node for node in every if node["Alive"] and node["NodeID"] != here]
    if not others:
        return []
    word = secrets.token_hex(16)
    mine = f"{PROBE}{word}"
    write(storage, mine, word.encode())
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
            remove(storage, name)
    return sorted(found, key=lambda each: each.node)


def check_attempt_is_seen(directory: str, attempt: int, patience_s: float = 10.0) -> None:
    """In a worker, which may be on a node that joined after the search began: see that it writes where the driver does.

    Raises:
        StorageError: the attempt that was claimed for it in the trial's folder is not there.
    """
    if is_remote(directory):
        return
    claimed = Path(directory, "attempts", str(attempt))
    end = time.monotonic() + patience_s  # a network mount may lag behind
    while not claimed.is_dir():
        if time.monotonic() > end:
            raise StorageError(
                f"storage {directory}: node {socket.gethostname()} does not see what the driver wrote there. "
                "With several nodes a run needs storage that each of them reaches under the same name: give --storage "
                "a folder that all of them mount (such as /mnt/shared/runs), or an s3:// or gs:// URI."
            )
        time.sleep(0.2)


def answer(storage: Path | Place, asked: str, answered: str) -> str | None:
    """On another node: read what the driver wrote and write it again under a name of its own; what went wrong."""
    try:
        content = read(storage, asked)
        if content is None:
            there = isinstance(storage, Place) or storage.is_dir()
            return "does not see what the driver writes there" if there else "has no such folder"
        write(storage, answered, content)
    except (OSError, StorageError) as error:
        return f"{error.message if isinstance(error, StorageError) else error}"
    return None


def _verdict(storage: Path | Place, reference: Any, name: str, word: str) -> str | None:
    try:
        problem: str | None = ray.get(reference, timeout=0.1)
    except ray.exceptions.GetTimeoutError:
        return f"did not answer within {TIMEOUT_S:g} s"
    except ray.exceptions.RayError as error:
        return f"could not look: {str(error).splitlines()[0]}"
    if problem is None and read(storage, name) != word.encode():
        return "writes where the driver does not see it"
    return problem


def _address(node: dict[str, Any]) -> str:
    return f"{node['NodeManagerAddress']} ({node['NodeManagerHostname']})"


def read(storage: Path | Place, name: str) -> bytes | None:
    """Content of a file or object; None where there is none."""
    if isinstance(storage, Place):
        return storage.read(name)
    # A network mount may remember for a while that a name was not there; listing asks again.
    if storage.is_dir():
        os.listdir(storage)
    return (storage / name).read_bytes() if (storage / name).exists() else None


def write(storage: Path | Place, name: str, content: bytes) -> None:
    """Write a file or object."""
    if isinstance(storage, Place):
        storage.write(name, content)
    else:
        (storage / name).write_bytes(content)


def remove(storage: Path | Place, name: str) -> None:
    """Delete a file or object, if it is there."""
    if isinstance(storage, Place):
        storage.delete_file(name)
    else:
        (storage / name).unlink(missing_ok=True)
