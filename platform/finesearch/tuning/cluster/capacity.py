"""What a cluster holds: CPUs, GPUs, memory; and how many trials fit into it at once."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import psutil

from finesearch.errors import PlacementError
from finesearch.plan import Plan

GROUP_BYTES = 1_200_000_000  # measured: helper actors and interpreters of one group, before any model


@dataclass(frozen=True)
class Node:
    """One machine of a cluster."""

    cpus: float
    gpus: float = 0.0

    def workers(self, cpus_each: float, gpus_each: float) -> int:
        """Workers that fit on it; a worker never spans two machines.

        >>> Node(cpus=3.0, gpus=1.0).workers(cpus_each=2.0, gpus_each=0.0)
        1
        >>> Node(cpus=8.0, gpus=1.0).workers(cpus_each=1.0, gpus_each=0.5)
        2
        """
        shares = [self.cpus / cpus_each]
        if gpus_each:
            shares.append(self.gpus / gpus_each)
        return math.floor(min(shares) + 1e-9)


@dataclass(frozen=True)
class Capacity:
    """What a cluster holds in all; memory in bytes."""

    nodes: tuple[Node, ...]
    memory_bytes: int

    @property
    def cpus(self) -> float:
        return sum(node.cpus for node in self.nodes)

    @property
    def gpus(self) -> float:
        return sum(node.gpus for node in self.nodes)

    def describe(self) -> str:
        gpus = f"{self.gpus:g} GPUs" if self.gpus else "no GPU"
        nodes = "1 node" if len(self.nodes) == 1 else f"{len(self.nodes)} nodes"
        return f"{nodes}, {self.cpus:g} CPUs, {gpus}, {self.memory_bytes / 1e9:.0f} GB of memory"


def read_capacity() -> Capacity:
    """What the joined cluster holds."""
    import ray

    every: list[dict[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call]
    held = [node["Resources"] for node in every if node["Alive"]]
    memory = sum(map(memory_of, held))
    if len(held) == 1:
        memory = min(memory, psutil.virtual_memory().available)
    return Capacity(tuple(Node(node.get("CPU", 0.0), node.get("GPU", 0.0)) for node in held), memory)


def memory_of(resources: Mapping[str, float]) -> int:
    """Bytes of memory of a node, by its resources: Ray divides what it found free (of the container, where there is
    one) between heap and object store."""
    return int(resources.get("memory", 0) + resources.get("object_store_memory", 0))


def fit_concurrency(plan: Plan, capacity: Capacity, worker_bytes: int) -> int:
    """Trials that run at once: as many as devices and memory hold, never more than the plan wants.

    worker_bytes: what a worker of the largest trial holds of the model; see ``TrialSizes``.

    Raises:
        PlacementError: not even one trial fits, or fewer than the plan asks for.
    """
    search = plan.search
    most = trials_that_fit(plan, capacity.nodes)
    if most < 1:
        raise PlacementError(
            f"{plan.name}: one trial asks for {asked(plan)}; the cluster has {capacity.describe()}, which hold "
            f"{workers_that_fit(plan, capacity.nodes)} such worker(s). "
            "Lower training.workers_per_trial, cpus_per_worker or gpus_per_worker, or join a larger cluster."
        )
    if search.concurrent_trials != "auto":
        wanted = int(search.concurrent_trials)
        if wanted > most:
            raise PlacementError(
                f"{plan.name}: search.concurrent_trials is {wanted}, each with {asked(plan)}; the cluster has "
                f"{capacity.describe()}, which hold {most}. Use `auto` or at most {most}."
            )
        return wanted
    return max(1, min(most, trials_that_fit_memory(plan, capacity, worker_bytes), plan.budget.trials))


def asked(plan: Plan) -> str:
    """What one trial asks for, in words."""
    training = plan.training
    return (
        f"{training.workers_per_trial} worker(s) with {training.cpus_per_worker:g} CPU(s) and "
        f"{training.gpus_per_worker:g} GPU(s) each"
    )


def workers_that_fit(plan: Plan, nodes: Iterable[Node]) -> int:
    """Workers of the plan that the devices of some nodes hold."""
    return sum(node.workers(plan.training.cpus_per_worker, plan.training.gpus_per_worker) for node in nodes)


def trials_that_fit(plan: Plan, nodes: Iterable[Node]) -> int:
    """Trials of the plan that the devices of some nodes hold, however many the plan wants."""
    return workers_that_fit(plan, nodes) // plan.training.workers_per_trial


def trials_that_fit_memory(plan: Plan, capacity: Capacity, worker_bytes: int) -> int:
    """Trials whose worker groups the memory holds."""
    return int(capacity.memory_bytes * 0.9 // (GROUP_BYTES + plan.training.workers_per_trial * worker_bytes))
