"""Limits of a plan: data and model, trial concurrency, memory, disk, time."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path

from finesearch.commands.doctor.finding import Finding, bad, ok, warn
from finesearch.commands.doctor.machine_checks import GIB
from finesearch.commands.memory_lines import GB, fit_words, memory_lines
from finesearch.errors import FinesearchError, StorageError
from finesearch.plan import Plan
from finesearch.run.disk_check import check_disk
from finesearch.run.preflight import Preflight, run_preflight
from finesearch.run.run_storage import run_folder
from finesearch.training.cost_model.device_fit import MOST_DEVICES, Devices, fit
from finesearch.training.cost_model.memory_forecast import Model
from finesearch.training.cost_model.trial_sizes import largest_trial
from finesearch.tuning.cluster.capacity import GROUP_BYTES, Capacity, fit_concurrency

ENDLESS = 1 << 60


def limit_findings(plan: Plan, capacity: Capacity, devices: Devices | None = None) -> list[Finding]:
    """Findings of every check of a plan against data, model and the capacity to run it.

    devices: hardware that is not here, on which each branch should fit.
    """
    with tempfile.TemporaryDirectory(prefix="finesearch-doctor-") as scratch:
        try:
            preflight = run_preflight(plan, Path(scratch))
            plan = preflight.plan
            concurrent = fit_concurrency(plan, capacity, preflight.sizes.worker_bytes)
        except FinesearchError as error:
            return [bad("plan", error.message, "Correct the plan, or what it names.")]
        return [
            check_plan(plan, preflight),
            check_concurrency(plan, capacity, preflight, concurrent),
            check_model_memory(plan, capacity, preflight),
            check_run_disk(plan, preflight, concurrent),
            *check_estimate(plan, preflight, concurrent),
            *([] if devices is None else check_devices_fit(plan, preflight, devices)),
        ]


def check_plan(plan: Plan, preflight: Preflight) -> Finding:
    """The search in words, and notes about the plan."""
    model = preflight.model
    words = f"{plan.name}: {plan.task.kind}; {model.architecture}, {model.num_layers} layers, "
    words += f"{model.parameters / 1e6:.1f} M parameters; {len(preflight.splits['train']):,} training rows"
    if preflight.warnings:
        return warn("plan", "\n".join((words, *preflight.warnings)), "See the plan's keys that these name.")
    return ok("plan", words)


def check_concurrency(plan: Plan, capacity: Capacity, preflight: Preflight, concurrent: int) -> Finding:
    """How many trials run at once, and what limits that number."""
    needed = preflight.sizes.worker_bytes
    if plan.search.concurrent_trials != "auto":
        return ok("at once", f"{concurrent} trial(s), as search.concurrent_trials says; on {capacity.describe()}")
    many = plan.model_copy(update={"budget": plan.budget.model_copy(update={"trials": ENDLESS})})
    by_devices = fit_concurrency(many, replace(capacity, memory_bytes=ENDLESS), needed)
    if concurrent == plan.budget.trials:
        why = "budget.trials"
    elif concurrent == by_devices:
        why = "GPUs" if plan.training.gpus_per_worker else "CPUs"
    else:
        why = f"memory (devices would hold {by_devices})"
    return ok("at once", f"{concurrent} trial(s), limited by {why}; on {capacity.describe()}")


def check_model_memory(plan: Plan, capacity: Capacity, preflight: Preflight) -> Finding:
    """Memory of the largest trial with its helpers, and a forecast for each branch."""
    needed = GROUP_BYTES + plan.training.workers_per_trial * preflight.sizes.worker_bytes
    words = f"a trial takes about {needed / GIB:.1f} GiB of memory; there are {capacity.memory_bytes / GIB:.1f}"
    words = "\n".join((words, *memory_lines(preflight.sizes)))
    if needed > capacity.memory_bytes:
        advice = "Take a smaller model, an adaptation that trains less, or a machine with more memory."
        return warn("trial", words, advice)
    return ok("trial", words)


def check_devices_fit(plan: Plan, preflight: Preflight, devices: Devices) -> list[Finding]:
    """For each branch, whether its largest trial fits on some devices, and what would make it fit."""
    training = plan.training.model_copy(update={"gpus_per_worker": max(1.0, plan.training.gpus_per_worker)})
    there = preflight.plan.model_copy(update={"training": training})
    facts, longest = preflight.model, preflight.workload.longest_row
    unsupported, usable = preflight.unsupported_baselines, devices.usable_bytes
    sizes = largest_trial(there, facts, preflight.strong, unsupported, longest)
    model = Model(facts.dimensions, facts.parameters, facts.num_layers)
    findings = [ok("hardware", f"{devices}: {usable / GB:g} GB of each can be used; largest trials, by a forecast")]
    for size in sizes.branches:
        found = fit(size.recipe, model, size.setting, devices)
        words = fit_words(size, found)
        if found.fits:
            findings.append(ok("fits", words))
        elif found.changes is not None and found.changed is not None:
            advice = f"It fits with {' and '.join(found.changes)}: {found.changed.device / GB:.1f} GB."
            findings.append(warn("fits not", words, advice))
        else:
            advice = f"Nothing is known that would make it fit, with up to {MOST_DEVICES} such devices."
            findings.append(warn("fits not", words, advice))
    return findings


def check_run_disk(plan: Plan, preflight: Preflight, concurrent: int) -> Finding:
    """There is disk space for checkpoints."""
    try:
        folder = run_folder(plan)
        need = check_disk(plan, folder, preflight.sizes.trained_bytes, concurrent)
    except StorageError as error:
        return bad("run", error.message, "See above.")
    except FinesearchError as error:
        return bad("run", error.message, "Choose another --storage.")
    return ok("run", f"checkpoints take at most {need / GIB:.2f} GiB in {folder}")


def check_estimate(plan: Plan, preflight: Preflight, concurrent: int) -> list[Finding]:
    """Time of the whole budget, and size of the prefix cache."""
    from finesearch.commands.cost_estimate import estimate

    lines = estimate(plan, preflight, concurrent)
    cache = [line.strip().partition(" ")[2].strip() for line in lines if line.startswith("  cache")]
    times = [line.strip() for line in lines if not line.startswith("  cache")]
    return [ok("time", times[-1].removeprefix("time").strip()), *(ok("cache", line) for line in cache)]


def check_waiting(reasons: list[str], trials_that_fit_now: int) -> Finding:
    """Whether a trial could start now on free devices; if not, who holds them."""
    if trials_that_fit_now < 1:
        return warn("waits", "\n".join(reasons), "End what holds them, ask for less in `training`, or wait.")
    return ok("waits", f"nothing: {trials_that_fit_now} trial(s) could start now")
