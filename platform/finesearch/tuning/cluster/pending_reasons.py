"""Explains why a trial is pending: devices it asks for, devices that are free, who holds the rest."""

from __future__ import annotations

from finesearch.plan import Plan
from finesearch.tuning.cluster.capacity import Node, asked, trials_that_fit
from finesearch.tuning.cluster.resource_usage import Devices, ResourceUsage, summed

ACTORS_NAMED = 3


def explain_pending(plan: Plan, resource_usage: ResourceUsage) -> list[str]:
    """Lines about a cluster: devices that a trial asks for, how many trials fit now, and each node's usage."""
    lines = [
        f"a trial asks for {asked(plan)}; {trials_that_fit_now(plan, resource_usage)} of them fit into what is free"
    ]
    for machine in resource_usage.machines:
        account = [f"{format_devices(machine.free, machine.total)} free"]
        if machine.is_draining:
            account.append("it is being taken away, so nothing starts there")
        if any(machine.ours.values()):
            account.append(f"{format_devices(machine.ours)} held by trials of this search")
        account += [f"{format_devices(devices)} held by {holder}" for holder, devices in machine.others if devices]
        if machine.unexplained:
            there = machine.actors[:ACTORS_NAMED]
            more = f" and {len(machine.actors) - ACTORS_NAMED} more" if len(machine.actors) > ACTORS_NAMED else ""
            named = f"; actors there: {', '.join(there)}{more}" if there else ""
            account.append(f"{format_devices(machine.unexplained)} held by tasks or actors of others{named}")
        lines.append(f"node {machine.name}: {'; '.join(account)}")
    return lines


def summarize_pending(plan: Plan, resource_usage: ResourceUsage) -> str:
    """One line for the progress output: why ``resource_usage.waiting`` trials have no devices."""
    machines = [machine for machine in resource_usage.machines if not machine.is_draining]
    free, total = summed(m.free for m in machines), summed(m.total for m in machines)
    holders = [holder for machine in machines for holder, devices in machine.others if devices]
    if any(machine.unexplained for machine in machines):
        holders.append("tasks or actors of others")
    leaving = len(resource_usage.machines) - len(machines)
    parts = [f"{resource_usage.waiting} waiting for {asked(plan)} ({format_devices(free, total)} free"]
    if holders:
        parts.append(f"others hold some: {', '.join(dict.fromkeys(holders))}")
    if leaving:
        parts.append(f"{leaving} node(s) being taken away")
    return "; ".join(parts) + ")"


def trials_that_fit_now(plan: Plan, resource_usage: ResourceUsage) -> int:
    """Trials that fit on the devices that are free now."""
    nodes = [
        Node(machine.free.get("CPU", 0.0), machine.free.get("GPU", 0.0))
        for machine in resource_usage.machines
        if not machine.is_draining
    ]
    return trials_that_fit(plan, nodes)


def format_devices(devices: Devices, total: Devices | None = None) -> str:
    """Devices in words.

    >>> format_devices({"CPU": 1.0}, {"CPU": 4.0, "GPU": 2.0})
    '1 of 4 CPUs, 0 of 2 GPUs'
    >>> format_devices({"CPU": 2.5})
    '2.5 CPUs'
    """
    names = [name for name in ("CPU", "GPU") if (total or devices).get(name)]
    if total is None:
        return ", ".join(f"{devices[name]:g} {name}s" for name in names) or "nothing"
    return ", ".join(f"{devices.get(name, 0.0):g} of {total[name]:g} {name}s" for name in names) or "no devices"
