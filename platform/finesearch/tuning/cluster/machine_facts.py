"""Facts about one machine: versions, compiler, devices, memory, disk. Read here, or on every node."""

from __future__ import annotations

import os
import platform
import shutil
import socket
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

if TYPE_CHECKING:
    from finesearch.training.runtime.precision_benchmark import PrecisionRates

PACKAGES = ("ray", "torch", "transformers", "datasets", "optuna", "deepspeed", "pyarrow", "peft")
GPU_DRIVER = Path("/dev/nvidiactl")


@dataclass(frozen=True, kw_only=True)
class MachineFacts:
    """One machine; sizes in bytes."""

    host: str
    versions: Mapping[str, str]
    """Versions of Python and of :data:`PACKAGES`; empty text for a package that is not installed."""
    compiler: str
    """First line of the C++ compiler's version; empty where there is none."""
    cpus: int
    gpus: tuple[str, ...]
    has_gpu_driver: bool
    rates: PrecisionRates
    """Measured in fp32 and bf16: on the first GPU, else on one CPU."""
    memory: int
    free_memory: int
    disks: Mapping[str, tuple[int, int]]
    """Free and total bytes of the disks that hold caches and Ray's session files."""


def describe_machine() -> MachineFacts:
    """This machine; imports torch."""
    import torch

    from finesearch.training.runtime.precision_benchmark import LayerShape, measure_precisions

    gpus = tuple(torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count()))
    memory = psutil.virtual_memory()
    return MachineFacts(
        host=socket.gethostname(),
        versions={"python": platform.python_version(), **{name: _version(name) for name in PACKAGES}},
        compiler=_compiler(),
        cpus=len(os.sched_getaffinity(0)),
        gpus=gpus,
        has_gpu_driver=GPU_DRIVER.exists(),
        rates=measure_precisions(LayerShape(), gpus=len(gpus)),
        memory=memory.total,
        free_memory=memory.available,
        disks={str(folder): _disk(folder) for folder in (_cache_home(), Path(os.environ.get("RAY_TMPDIR") or "/tmp"))},
    )


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def _compiler() -> str:
    program = os.environ.get("CXX") or "c++"
    if shutil.which(program) is None:
        return ""
    done = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=20)
    return done.stdout.partition("\n")[0].strip() if done.returncode == 0 else ""


def _cache_home() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")


def _disk(folder: Path) -> tuple[int, int]:
    while not folder.exists():
        folder = folder.parent
    usage = shutil.disk_usage(folder)
    return usage.free, usage.total
