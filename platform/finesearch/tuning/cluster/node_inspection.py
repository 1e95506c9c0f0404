"""Inspects every node of a cluster through an actor on it: facts, clock offset, network links, storage."""

from __future__ import annotations

import os
import time
from dataclasses import KW_ONLY, dataclass
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from finesearch.errors import InputError
from finesearch.storage.store import Store
from finesearch.tuning.cluster.addresses import can_connect
from finesearch.tuning.cluster.capacity import Capacity, read_capacity
from finesearch.tuning.cluster.machine_facts import MachineFacts
from finesearch.tuning.cluster.node_probe import NodeProbe
from finesearch.tuning.cluster.shared_storage_check import probe_shared_storage
from finesearch.tuning.connection import connect

START_S = 60.0
"""Time limit for an actor to start on a node, the package to be copied there, and torch to be imported."""
REACH_S = 20.0
"""Time limit for two nodes to connect and sum a megabyte."""
CONNECT_S = 5.0
CLOCK_ROUNDS = 5


@dataclass(frozen=True)
class NodeFacts:
    """One node of a cluster."""

    node_id: str
    address: str
    is_head: bool
    machine: MachineFacts | None = None
    clock_offset_s: float = 0.0
    """Its clock minus this process's."""
    clock_offset_error_s: float = 0.0
    """Error bound of ``clock_offset_s``: half of the shortest round trip."""
    _: KW_ONLY
    reaches_dashboard: bool = False
    """Whether the dashboard can be reached from outside: by an address of the head other than loopback, or from
    another node."""
    problem: str = ""


@dataclass(frozen=True)
class Link:
    """Two nodes and an all-reduce between them."""

    nodes: tuple[str, str]
    backend: str
    seconds: float = 0.0
    problem: str = ""


@dataclass(frozen=True)
class ClusterFacts:
    """The joined cluster."""

    address: str
    dashboard: str
    """``host:port``; empty where there is none."""
    capacity: Capacity
    nodes: tuple[NodeFacts, ...]
    links: tuple[Link, ...] = ()
    without_storage: tuple[str, ...] = ()
    """Nodes that do not reach the storage as this one does, each with the problem that it found."""

    @property
    def machines(self) -> list[MachineFacts]:
        return [node.machine for node in self.nodes if node.machine is not None]


def examine_cluster(storage: Store | None) -> ClusterFacts:
    """Join the cluster of ``RAY_ADDRESS`` and examine it; ``connect.disconnect`` ends the connection.

    storage: a store that this machine can write to, and every node should.

    Raises:
        InputError: the cluster cannot be joined.
        StorageError: this machine cannot write to the object store.
    """
    dashboard = join()
    every: list[dict[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call]
    alive = sorted((node for node in every if node["Alive"]), key=lambda node: not _is_head(node))
    actors = {node["NodeID"]: _examiner(node) for node in alive}
    first_words = {name: actor.facts.remote() for name, actor in actors.items()}  # all nodes import torch at a time
    heads = [node["NodeManagerAddress"] for node in alive if _is_head(node)]
    port = int(dashboard.rpartition(":")[2]) if dashboard else 0
    nodes = tuple(_examine(node, actors[node["NodeID"]], first_words[node["NodeID"]], heads, port) for node in alive)
    able = [node for node in nodes if not node.problem]
    reached = [] if storage is None else probe_shared_storage(storage)
    without = tuple(f"{each.node} {each.problem}" for each in reached if each.problem is not None)
    links = [_reach(able[0], other, actors, "gloo") for other in able[1:]]
    has_gpus = [node for node in able if node.machine is not None and node.machine.gpus]
    links += [_reach(has_gpus[0], other, actors, "nccl") for other in has_gpus[1:]]
    for actor in actors.values():
        ray.kill(actor)
    return ClusterFacts(ray.get_runtime_context().gcs_address, dashboard, read_capacity(), nodes, tuple(links), without)


def join() -> str:
    """Join the cluster; returns the address of its dashboard.

    Raises:
        InputError: it cannot be joined.
    """
    address = os.environ.get("RAY_ADDRESS", "")
    problem = address_problem(address)
    if problem:
        raise InputError(f"RAY_ADDRESS={address}: {problem}")
    try:
        return connect.connect()
    except (ConnectionError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
        first_line = str(error).strip().partition("\n")[0]
        raise InputError(f"RAY_ADDRESS: the cluster cannot be joined: {type(error).__name__}: {first_line}") from error


def address_problem(address: str) -> str:
    """What is wrong with a cluster's address, or empty text; checked because Ray would try a dead one for minutes."""
    if "://" in address:
        return "expected HOST:PORT of the cluster itself, or auto; got a URL, which is for `ray job submit` and clients"
    host, _, port = address.rpartition(":")
    if port.isdecimal() and not can_connect(host, int(port), CONNECT_S):
        return f"nobody answers there within {CONNECT_S:.0f} s"
    return ""


def _is_head(node: dict[str, Any]) -> bool:
    return "node:__internal_head__" in node["Resources"]


def _examiner(node: dict[str, Any]) -> Any:
    pinned = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
    actor: Any = ray.remote(NodeProbe)
    return actor.options(num_cpus=0, scheduling_strategy=pinned).remote()


def _examine(node: dict[str, Any], actor: Any, first_words: Any, heads: list[str], port: int) -> NodeFacts:
    name, address, is_head = node["NodeID"], node["NodeManagerAddress"], _is_head(node)
    try:
        machine: MachineFacts = ray.get(first_words, timeout=START_S)
        skew, within = _skew(actor)
        from_outside = bool(port) and ray.get(actor.can_connect.remote([] if is_head else heads, port), timeout=START_S)
    except ray.exceptions.RayError as error:
        return NodeFacts(name, address, is_head, problem=_said(error))
    return NodeFacts(name, address, is_head, machine, skew, within, reaches_dashboard=from_outside)


def _skew(actor: Any) -> tuple[float, float]:
    """The node's clock minus ours, by the quickest of several calls, and the error bound of that."""
    asked = []
    for _ in range(CLOCK_ROUNDS):
        before = time.time()
        theirs = ray.get(actor.clock.remote(), timeout=START_S)
        after = time.time()
        asked.append(((after - before) / 2, theirs - (before + after) / 2))
    within, skew = min(asked)
    return skew, within


def _reach(first: NodeFacts, second: NodeFacts, actors: dict[str, Any], backend: str) -> Link:
    pair, ends = (first.address, second.address), (actors[first.node_id], actors[second.node_id])
    try:
        address, port = ray.get(ends[0].offer.remote(), timeout=REACH_S)
        sums = [actor.all_reduce.remote(rank, address, port, backend, REACH_S) for rank, actor in enumerate(ends)]
        found: list[tuple[float, str]] = ray.get(sums, timeout=2 * REACH_S)
    except ray.exceptions.GetTimeoutError:
        return Link(pair, backend, problem=f"no answer within {2 * REACH_S:.0f} s")
    except ray.exceptions.RayError as error:
        return Link(pair, backend, problem=_said(error))
    problems = [problem for _, problem in found if problem]
    return Link(pair, backend, max(seconds for seconds, _ in found), problems[0] if problems else "")


def _said(error: Exception) -> str:
    """One line of an error: the last line of a task's exception, which names the cause; else the first."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [""]
    return lines[-1] if isinstance(error, ray.exceptions.RayTaskError) else f"{type(error).__name__}: {lines[0]}"
