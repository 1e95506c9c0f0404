"""Runs every check of ``finesearch doctor`` and prints one screen."""

from __future__ import annotations

import os
from pathlib import Path

import psutil

from finesearch.commands.doctor.finding import Finding, bad, exit_status, render
from finesearch.commands.doctor.machine_checks import check_sockets, machine_findings, read_constraints
from finesearch.commands.doctor.node_checks import node_findings
from finesearch.commands.doctor.plan_limits import check_waiting, limit_findings
from finesearch.commands.doctor.security_checks import check_dashboard, check_own_dashboard, check_ports, check_token
from finesearch.commands.doctor.storage_checks import storage_findings, try_storage
from finesearch.errors import FinesearchError, InputError
from finesearch.plan import Plan, load_plan
from finesearch.training.cost_model.device_fit import Devices, parse_devices
from finesearch.tuning.cluster.capacity import Capacity, Node
from finesearch.tuning.cluster.machine_facts import MachineFacts, describe_machine
from finesearch.tuning.cluster.node_inspection import ClusterFacts, examine_cluster
from finesearch.tuning.cluster.pending_reasons import explain_pending, trials_that_fit_now
from finesearch.tuning.cluster.resource_usage import read_resource_usage
from finesearch.tuning.connection import connect
from finesearch.tuning.connection.ray_token import find_token

__all__ = ["Finding", "doctor", "examine", "exit_status", "render"]


def doctor(space: Path | None, storage: str | None, devices: str | None = None) -> int:
    """Print the screen; returns the exit status: 0 a search can start, 1 it cannot.

    Raises:
        InputError: ``devices`` is malformed, or comes without a plan.
    """
    there = None if devices is None else parse_devices(devices)
    if there is not None and space is None:
        raise InputError("--devices: expected a plan file, whose branches are to fit, got none. Name one.")
    address = os.environ.get("RAY_ADDRESS")
    where = f"the cluster at {address}" if address else "this machine (RAY_ADDRESS is not set: no cluster)"
    findings = examine(space, storage, there)
    print(render(f"finesearch doctor: {where}", findings))
    return exit_status(findings)


def examine(space: Path | None, storage: str | None, devices: Devices | None = None) -> list[Finding]:
    """Findings of every check, in the order of the screen.

    space: plan file; None checks machine and cluster only. storage: replaces the plan's. devices: hardware that is not
    here, which the plan is held against too.
    """
    plan, problems = _read(space, storage)
    where = plan.storage if plan is not None else storage or "runs"
    storage_probe = try_storage(where)
    here, joins = describe_machine(), bool(os.environ.get("RAY_ADDRESS"))
    known: ClusterFacts | None = None
    try:
        if joins:
            known = examine_cluster(storage_probe.usable)
        machines = [here] if known is None else known.machines or [here]
        findings = [*machine_findings(machines, read_constraints()), check_token(find_token(), joins)]
        if known is not None:
            findings += [check_dashboard(known), check_ports(), *node_findings(known)]
            if plan is not None:
                resource_usage = read_resource_usage()
                findings.append(
                    check_waiting(explain_pending(plan, resource_usage), trials_that_fit_now(plan, resource_usage))
                )
        else:
            findings += [check_sockets(), check_own_dashboard(), check_ports()]
    except InputError as error:
        advice = "Give the address that `ray start` printed and its token, or run this as a job; see the token below."
        findings = [bad("cluster", error.message, advice), *machine_findings([here], read_constraints())]
        findings.append(check_token(find_token(), joins))
    finally:
        if joins:
            connect.disconnect()
    findings += [*storage_findings(storage_probe, known), *problems]
    if plan is not None:
        findings += limit_findings(plan, _own_capacity(here) if known is None else known.capacity, devices)
    return findings


def _read(space: Path | None, storage: str | None) -> tuple[Plan | None, list[Finding]]:
    """The plan, if there is a readable one, and findings about it otherwise."""
    if space is None:
        return None, []
    try:
        return load_plan(space, [] if storage is None else [f"storage={storage}"]), []
    except FinesearchError as error:
        return None, [bad("plan", error.message, "Correct the plan file.")]


def _own_capacity(here: MachineFacts) -> Capacity:
    """What a Ray that is started on this machine would find."""
    return Capacity((Node(here.cpus, len(here.gpus)),), psutil.virtual_memory().available)
