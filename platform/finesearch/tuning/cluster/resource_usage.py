"""Resource usage of the cluster: devices of each node, free ones, and who holds the rest."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass, field
from typing import Any

from finesearch.tuning.cluster.capacity import Capacity, Node, memory_of

NODE_REQUEST_PREFIX = "finesearch-wants-room"
"""Name prefix of placement groups that only ask for nodes: see ``node_requests.py``."""

COUNTED = ("CPU", "GPU")
Devices = Mapping[str, float]


@dataclass(frozen=True)
class NodeUsage:
    """One living node. Worker groups of this job hold ``ours``; devices are by name, ``CPU`` and ``GPU``.

    ``others``: devices that each placement group of another job holds here; ``actors``: classes of other jobs' actors.
    """

    name: str
    total: Devices
    free: Devices
    ours: Devices = field(default_factory=dict)
    memory_bytes: int = 0
    _: KW_ONLY
    is_draining: bool = False
    others: tuple[tuple[str, Devices], ...] = ()
    actors: tuple[str, ...] = ()

    @property
    def open_to_us(self) -> Node:
        """Devices that this job holds here or may take; none on a draining node."""
        if self.is_draining:
            return Node(0.0)
        cpus, gpus = (self.free.get(name, 0.0) + self.ours.get(name, 0.0) for name in COUNTED)
        return Node(min(cpus, self.total.get("CPU", 0.0)), min(gpus, self.total.get("GPU", 0.0)))

    @property
    def unexplained(self) -> dict[str, float]:
        """Devices held by no placement group and not by us: those of tasks and actors that request them directly."""
        left = {}
        for name in COUNTED:
            held = self.ours.get(name, 0.0) + sum(devices.get(name, 0.0) for _, devices in self.others)
            rest = self.total.get(name, 0.0) - self.free.get(name, 0.0) - held
            if rest > 1e-6:
                left[name] = rest
        return left


@dataclass(frozen=True)
class ResourceUsage:
    """The cluster at one moment. ``waiting`` counts the worker groups of this job that have no devices yet."""

    machines: tuple[NodeUsage, ...]
    waiting: int = 0

    @property
    def capacity(self) -> Capacity:
        """Total capacity that this job may hold."""
        return Capacity(
            tuple(machine.open_to_us for machine in self.machines),
            sum(machine.memory_bytes for machine in self.machines if not machine.is_draining),
        )


def read_resource_usage() -> ResourceUsage:
    """Read the joined cluster's usage; takes some milliseconds.

    A placement group's id ends with its job, and Ray records the node of each bundle. It records no devices of tasks
    and actors outside of placement groups, so only their classes are known.
    """
    import ray
    from ray._private.state import state  # the only source of free devices by node, and of draining nodes
    from ray.util import placement_group_table

    job = ray.get_runtime_context().get_job_id()
    drivers = {row["JobID"]: row for row in state.job_table()}  # type: ignore[no-untyped-call]
    groups = {name: group for name, group in placement_group_table().items() if group["state"] != "REMOVED"}
    held: dict[str, list[tuple[str, str, dict[str, float]]]] = {}
    for name, group in groups.items():
        for node, devices in bundles_by_node(group).items():
            owner = job if name.endswith(job) else job_of(name, drivers)
            held.setdefault(node, []).append((owner, group["name"], devices))
    free = state.available_resources_per_node()  # type: ignore[no-untyped-call]
    leaving = state.get_draining_nodes()
    actors: dict[str, list[str]] = {}
    for actor in state.actor_table(None, None, "ALIVE").values():
        if actor["JobID"] != job:
            actors.setdefault(actor["Address"]["NodeID"], []).append(
                f"{actor['ActorClassName']} (job {actor['JobID']})"
            )
    machines = []
    for node in ray.nodes():  # type: ignore[no-untyped-call]
        if not node["Alive"]:
            continue
        key, resources = node["NodeID"], node["Resources"]
        rows = held.get(key, [])
        ours = summed(
            devices for owner, name, devices in rows if owner == job and not name.startswith(NODE_REQUEST_PREFIX)
        )
        others = tuple((describe_owner(owner, name, drivers), devices) for owner, name, devices in rows if owner != job)
        # Devices of groups that only ask for nodes count as free.
        asked = summed(
            devices for owner, name, devices in rows if owner == job and name.startswith(NODE_REQUEST_PREFIX)
        )
        machines.append(
            NodeUsage(
                name=node["NodeManagerAddress"],
                total=counted(resources),
                free=summed([counted(free.get(key, {})), asked]),
                ours=ours,
                memory_bytes=memory_of(resources),
                is_draining=key in leaving,
                others=others,
                actors=tuple(sorted(set(actors.get(key, ())))),
            )
        )
    waiting = sum(is_pending_group(name, group, job) for name, group in groups.items())
    return ResourceUsage(tuple(machines), waiting)


def is_pending_group(name: str, group: Mapping[str, Any], job: str) -> bool:
    """Whether a row of the placement group table is a worker group of ``job`` without devices."""
    return (
        name.endswith(job)
        and not group["name"].startswith(NODE_REQUEST_PREFIX)
        and group["state"] in ("PENDING", "RESCHEDULING")
    )


def bundles_by_node(group: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    """Devices that a placement group holds, by node id.

    >>> bundles_by_node({"bundles": {0: {"CPU": 1.0}, 1: {"CPU": 1.0}}, "bundles_to_node_id": {0: "a", 1: "a"}})
    {'a': {'CPU': 2.0}}
    """
    nodes: dict[str, dict[str, float]] = {}
    for index, node in group["bundles_to_node_id"].items():
        if node.strip("f"):  # all f: not placed
            nodes[node] = summed([nodes.get(node, {}), counted(group["bundles"][index])])
    return nodes


def job_of(group: str, drivers: Mapping[str, Any]) -> str:
    """The job that a placement group's id ends with; empty if it is none of ``drivers``."""
    return next((job for job in drivers if group.endswith(job)), "")


def describe_owner(job: str, group: str, drivers: Mapping[str, Any]) -> str:
    """The owner of a placement group, in words; never its command line, which may hold secrets.

    >>> describe_owner("02000000", "", {"02000000": {"DriverPid": 17, "DriverIPAddress": "10.0.0.4"}})
    'a placement group of job 02000000 (process 17 on 10.0.0.4)'
    """
    named = f"placement group {group!r}" if group else "a placement group"
    driver = drivers.get(job)
    if driver is None:
        return named
    return f"{named} of job {job} (process {driver['DriverPid']} on {driver['DriverIPAddress']})"


def counted(resources: Mapping[str, Any]) -> dict[str, float]:
    return {name: float(resources[name]) for name in COUNTED if resources.get(name)}


def summed(parts: Any) -> dict[str, float]:
    """
    >>> summed([{"CPU": 1.0}, {"CPU": 2.0, "GPU": 1.0}])
    {'CPU': 3.0, 'GPU': 1.0}
    """
    whole: dict[str, float] = {}
    for part in parts:
        for name, value in part.items():
            whole[name] = whole.get(name, 0.0) + value
    return whole
