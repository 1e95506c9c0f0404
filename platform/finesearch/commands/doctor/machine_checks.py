"""Checks of machines, this one or the nodes of a cluster: versions, compiler, devices, precision, memory, disk."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from finesearch.commands.doctor.finding import Finding, bad, ok, warn, worst
from finesearch.tuning.cluster.capacity import GROUP_BYTES
from finesearch.tuning.cluster.machine_facts import MachineFacts
from finesearch.tuning.socket_paths import ray_temporary_folder, socket_problem

GIB = 1 << 30
LITTLE_DISK = 5 * GIB
RAY_STOPS_AT = 0.95
"""Used share of a disk above which Ray creates no more objects there."""
CONSTRAINTS = Path(__file__).resolve().parents[4] / "constraints.txt"


def machine_findings(machines: Sequence[MachineFacts], constraints: Mapping[str, str]) -> list[Finding]:
    """Findings of every machine check; the first machine is the one that the search is started from."""
    return [
        check_versions(machines, constraints),
        check_compiler(machines),
        check_devices(machines),
        check_precision(machines),
        check_memory(machines),
        check_disks(machines),
    ]


def read_constraints(path: Path = CONSTRAINTS) -> dict[str, str]:
    """Package to version from the project's constraints file; empty where the project was installed without it."""
    if not path.is_file():
        return {}
    lines = [line.partition("#")[0].strip() for line in path.read_text(encoding="utf-8").splitlines()]
    return {name.lower(): version for name, _, version in (line.partition("==") for line in lines if line)}


def check_versions(machines: Sequence[MachineFacts], constraints: Mapping[str, str]) -> Finding:
    """All required packages are installed, in tested versions, the same on every node."""
    ours = machines[0].versions
    words = ", ".join(f"{name} {version or 'missing'}" for name, version in ours.items())
    missing = [f"{name} on {m.host}" for m in machines for name, version in m.versions.items() if not version]
    if missing:
        return bad("versions", f"{words}; missing: {', '.join(missing)}", "Install with `make venv` on every node.")
    others = [
        f"{machine.host} has {name} {version}"
        for machine in machines[1:]
        for name, version in machine.versions.items()
        if version != ours[name]
    ]
    if others:
        same = "Install every node from the same constraints.txt: results depend on versions."
        return warn("versions", f"{words}; but {', '.join(others)}", same)
    # The constraints lack build tags such as +cpu.
    untested = [
        f"{name} {constraints[name]}"
        for name, version in ours.items()
        if name in constraints and version.partition("+")[0] != constraints[name].partition("+")[0]
    ]
    if untested:
        return warn("versions", f"{words}; tested with {', '.join(untested)}", "Run `make venv` in a fresh .venv.")
    return ok("versions", words + ("; as in constraints.txt" if constraints else ""))


def check_compiler(machines: Sequence[MachineFacts]) -> Finding:
    """There is a C++ compiler, with which DeepSpeed builds some of its operations."""
    without = [machine.host for machine in machines if not machine.compiler]
    if without:
        advice = "Install g++ (or name a compiler with CXX): DeepSpeed builds some of its operations when first used."
        return warn("compiler", f"none on {', '.join(without)}", advice)
    return ok("compiler", machines[0].compiler)


def check_devices(machines: Sequence[MachineFacts]) -> Finding:
    """Lists CPUs and GPUs, and GPUs that torch cannot use."""
    found = []
    for machine in machines:
        gpus = ", ".join(machine.gpus) or "no GPU"
        words = f"{machine.host}: {machine.cpus} CPUs, {gpus}"
        if machine.has_gpu_driver and not machine.gpus:
            advice = "Install a CUDA build of torch (README, GPU machines), or see what hides the GPUs."
            found.append(warn("devices", f"{words} for torch {machine.versions['torch']}, but a GPU driver", advice))
        else:
            found.append(ok("devices", words))
    return worst("devices", found)


def check_precision(machines: Sequence[MachineFacts]) -> Finding:
    """Both rates of each machine, and which precision ``auto`` takes: bf16 where all of them gain by it."""
    rates = "; ".join(f"{machine.host}: {machine.rates.text}" for machine in machines)
    losing = [machine.host for machine in machines if machine.rates.faster == "fp32"]
    words = f"{rates}; `precision: auto` takes {'fp32' if losing else 'bf16'}"
    if losing and len(losing) < len(machines):
        advice = f"{', '.join(losing)} would lose by bf16: the search is faster in bf16 without such nodes."
        return warn("precision", words, advice)
    return ok("precision", words)


def check_memory(machines: Sequence[MachineFacts]) -> Finding:
    """There is memory for one worker group, before any model."""
    words = "; ".join(f"{m.host}: {m.free_memory / GIB:.1f} of {m.memory / GIB:.1f} GiB free" for m in machines)
    if all(machine.free_memory < GROUP_BYTES for machine in machines):
        advice = f"One trial's processes take {GROUP_BYTES / GIB:.1f} GiB beside its model: end other programs."
        return warn("memory", words, advice)
    return ok("memory", words)


def check_sockets(environment: Mapping[str, str] = os.environ) -> Finding:
    """A Ray that is started here can make its sockets."""
    problem = socket_problem(environment)
    if problem is not None:
        return bad("sockets", *problem)
    return ok("sockets", f"{ray_temporary_folder(environment)}: short enough for those of Ray")


def check_disks(machines: Sequence[MachineFacts]) -> Finding:
    """There is disk space for caches and for Ray's own files."""
    found = []
    for machine in machines:
        for folder, (free, total) in machine.disks.items():
            words = f"{machine.host} {folder}: {free / GIB:.1f} of {total / GIB:.1f} GiB free"
            if free < LITTLE_DISK or free < (1 - RAY_STOPS_AT) * total:
                advice = "Free some: caches go there, and Ray keeps no objects on a disk that is 95 % full."
                found.append(warn("disk", words, advice))
            else:
                found.append(ok("disk", words))
    return worst("disk", found)
