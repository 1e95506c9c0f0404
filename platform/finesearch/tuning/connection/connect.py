"""Ray, started here or joined, and what its workers need of the driver."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import finesearch
from finesearch.errors import InputError
from finesearch.redaction import secret_values
from finesearch.tuning.connection.ray_token import make_token
from finesearch.tuning.socket_paths import socket_problem

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


STORAGE_KEYS = ("AWS_", "GOOGLE_", "GCE_")
"""How variables begin that open an object store."""
HUB_KEYS = ("HF_", "HUGGING_FACE_", "HUGGINGFACE_")
RAYS_OWN = ("RAY_",)


def connect(name: str | None = None, needed_keys: tuple[str, ...] = ()) -> str:
    """Join the cluster of this job, or of ``RAY_ADDRESS``; else start Ray here. Returns its dashboard, or empty text.

    name: the search's, as ``job_name`` in the metadata that the dashboard's Jobs page shows.
    needed_keys: how variables begin whose secrets the workers of a Ray that is started here need.

    Raises:
        InputError: Ray cannot make its sockets in its folder for temporary files.
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
        "runtime_env": runtime_env(joins, needed_keys),
        "log_to_driver": False,
        "logging_level": logging.ERROR,
        "job_config": ray.job_config.JobConfig(metadata={"job_name": name} if name else {}),
    }
    if joins:
        joined: Any = ray.init(**arguments)
        return joined.address_info["webui_url"] or ""
    if (problem := socket_problem()) is not None:
        raise InputError(f"{problem[0]}. {problem[1]}")
    make_token()
    started: Any = ray.init(
        address="local", include_dashboard=os.environ.get("FINESEARCH_DASHBOARD") == "1", **arguments
    )
    return started.address_info["webui_url"] or ""


def control_store_address() -> str:
    """``HOST:PORT`` of the control store of the Ray that was joined or started."""
    import ray

    return str(ray.get_runtime_context().gcs_address)


def runtime_env(joins: bool, needed_keys: tuple[str, ...] = ()) -> dict[str, Any]:
    """What workers need from the driver: some variables and, on a cluster that is joined, this package.

    Workers of a Ray that is started here would inherit all of the driver's variables: its secrets are empty there, but
    for those in ``needed_keys``.

    Nodes may have another version of it installed, or none; and Ray does not put the driver's folder on the workers'
    path when a job brings its working directory along. The environment that the job was submitted with wins, since Ray
    refuses to merge two runtime environments that give the same key.
    """
    submitted = json.loads(os.environ.get(JOB_CONFIG, "{}")).get("runtime_env") or {}
    forwarded = [key for key in FORWARDED if key in os.environ and key not in submitted.get("env_vars", {})]
    environment: dict[str, Any] = {"env_vars": {key: os.environ[key] for key in forwarded}}
    if not joins:
        environment["env_vars"] |= dict.fromkeys(_withheld(os.environ, needed_keys), "")
    if joins and "py_modules" not in submitted:
        environment["py_modules"] = [str(Path(finesearch.__file__).parent)]
    return environment


def _withheld(variables: Mapping[str, str], needed_keys: tuple[str, ...]) -> list[str]:
    """Variables with secrets that workers do not need.

    >>> _withheld({"WANDB_API_KEY": "12345678", "AWS_SECRET_ACCESS_KEY": "12345678", "HOME": "/root"}, ("AWS_",))
    ['WANDB_API_KEY']
    """
    return [
        name
        for name, value in variables.items()
        if secret_values({name: value}) and not name.startswith((*RAYS_OWN, *needed_keys))
    ]


def disconnect() -> None:
    """Disconnect; a Ray that :func:`connect` started ends with it."""
    import ray

    ray.shutdown()
