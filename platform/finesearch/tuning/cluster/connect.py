"""Starts Ray or joins a cluster; its capacity, and how many trials fit at once."""

from __future__ import annotations

import json
import logging
import math
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

import finesearch
from finesearch.errors import PlacementError
from finesearch.plan import Plan
from finesearch.tuning.cluster.ray_token import make_token

GROUP_BYTES = 1_200_000_000  # measured: helper actors and interpreters of one group, before any model

RAY_ENVIRONMENT_DEFAULTS = {
    "RAY_AIR_NEW_OUTPUT": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "TUNE_GLOBAL_CHECKPOINT_S": "1000000",
    "TUNE_WARN_THRESHOLD_S": "10",
    "TUNE_MAX_PENDING_TRIALS_PG": "16",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.2",
    "RAY_TRAIN_PREEMPTION_POLL_INTERVAL_S": "2",
    # A worker group may wait for devices as long as it takes; the progress line says why.
    "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "3600",
    "RAY_DEDUP_LOGS": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    # A group is a dozen processes; on two CPUs Ray would warn of that many on the terminal, above the live table.
    "RAY_worker_maximum_startup_concurrency": "16",
}
JOB_CONFIG = "RAY_JOB_CONFIG_JSON_ENV_VAR"
"""The variable in which Ray gives a job's driver the runtime environment that the job was submitted with."""
FORWARDED = (
    "DS_BUILD_OPS", "HF_HUB_OFFLINE", "HF_HOME", "RAY_CHDIR_TO_TRIAL_DIR", "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S",
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER", "RAY_TRAIN_PREEMPTION_POLL_INTERVAL_S",
    "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S", "TOKENIZERS_PARALLELISM", "DS_ACCELERATOR",
    "AWS_REGION", "AWS_DEFAULT_REGION", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3",  # where storage is; never its keys
)  # fmt: skip


@dataclass(frozen=True)
class Node:
    """CPUs and GPUs of one machine of a cluster."""

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
    """Total devices and memory of a cluster; memory in bytes."""

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


def connect(name: str | None = None) -> str:
    """Join the cluster of this job, or of ``RAY_ADDRESS``; else start Ray here. Returns its dashboard, or empty text.

    name: the search's, as ``job_name`` in the metadata that the dashboard's Jobs page shows.
    """
    for key, value in RAY_ENVIRONMENT_DEFAULTS.items():
        os.environ.setdefault(key, value)
    os.environ.setdefault("DS_BUILD_OPS", "0")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    import ray

    joins = bool(os.environ.get("RAY_ADDRESS"))
    # Only clusters preempt machines, and the watcher costs one process for each worker group.
    os.environ.setdefault("RAY_TRAIN_ENABLE_PREEMPTION_WATCHER", "1" if joins else "0")
    arguments: dict[str, Any] = {
        "runtime_env": runtime_env(joins),
        "log_to_driver": False,
        "logging_level": logging.ERROR,
        "job_config": ray.job_config.JobConfig(metadata={"job_name": name} if name else {}),
    }
    if joins:
        joined: Any = ray.init(**arguments)
        return joined.address_info["webui_url"] or ""
    make_token()
    started: Any = ray.init(
        address="local", include_dashboard=os.environ.get("FINESEARCH_DASHBOARD") == "1", **arguments
    )
    return started.address_info["webui_url"] or ""


def runtime_env(joins: bool) -> dict[str, Any]:
    """What workers need from the driver: some variables and, on a cluster that is joined, this package.

    Nodes may have another version of it installed, or none; and Ray does not put the driver's folder on the workers'
    path when a job brings its working directory along. The environment that the job was submitted with wins, since Ray
    refuses to merge two runtime environments that give the same key.
    """
    submitted = json.loads(os.environ.get(JOB_CONFIG, "{}")).get("runtime_env") or {}
    forwarded = [key for key in FORWARDED if key in os.environ and key not in submitted.get("env_vars", {})]
    environment: dict[str, Any] = {"env_vars": {key: os.environ[key] for key in forwarded}}
    if joins and "py_modules" not in submitted:
        environment["py_modules"] = [str(Path(finesearch.__file__).parent)]
    return environment


def disconnect() -> None:
    """Disconnect; a Ray that :func:`connect` started ends with it."""
    import ray

    ray.shutdown()


def read_capacity() -> Capacity:
    """Capacity of the joined cluster."""
    import ray

    every: list[dict[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call]
    held = [node["Resources"] for node in every if node["Alive"]]
    memory = sum(map(memory_of, held))
    if len(held) == 1:
        memory = min(memory, psutil.virtual_memory().available)
    return Capacity(tuple(Node(node.get("CPU", 0.0), node.get("GPU", 0.0)) for node in held), memory)


def memory_of(resources: Mapping[str, float]) -> int:
    """Bytes of memory of a node, from its resources: Ray divides the free memory (the container's, where there is
    one) between heap and object store."""
    return int(resources.get("memory", 0) + resources.get("object_store_memory", 0))


def fit_concurrency(plan: Plan, capacity: Capacity, model_bytes: int) -> int:
    """Trial concurrency: as many as fit devices and memory, never more than the plan asks for.

    A worker holds base weights, the trained copy, gradients and two moments: five times ``model_bytes``, the size of
    the weights in fp32.

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
        requested = int(search.concurrent_trials)
        if requested > most:
            raise PlacementError(
                f"{plan.name}: search.concurrent_trials is {requested}, each with {asked(plan)}; the cluster has "
                f"{capacity.describe()}, which hold {most}. Use `auto` or at most {most}."
            )
        return requested
    return max(1, min(most, trials_that_fit_memory(plan, capacity, model_bytes), plan.budget.trials))


def asked(plan: Plan) -> str:
    """Devices that one trial asks for, in words."""
    training = plan.training
    return (
        f"{training.workers_per_trial} worker(s) with {training.cpus_per_worker:g} CPU(s) and "
        f"{training.gpus_per_worker:g} GPU(s) each"
    )


def workers_that_fit(plan: Plan, nodes: Iterable[Node]) -> int:
    """Number of the plan's workers that fit on the devices of ``nodes``."""
    return sum(node.workers(plan.training.cpus_per_worker, plan.training.gpus_per_worker) for node in nodes)


def trials_that_fit(plan: Plan, nodes: Iterable[Node]) -> int:
    """Number of the plan's trials that fit on the devices of ``nodes``, regardless of the plan's own limit."""
    return workers_that_fit(plan, nodes) // plan.training.workers_per_trial


def trials_that_fit_memory(plan: Plan, capacity: Capacity, model_bytes: int) -> int:
    """Number of trials whose worker groups fit in memory."""
    return int(capacity.memory_bytes * 0.9 // (GROUP_BYTES + plan.training.workers_per_trial * 5 * model_bytes))
