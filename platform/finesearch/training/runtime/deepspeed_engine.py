"""The DeepSpeed (ZeRO 0-3) engine of one trial: set up in a warm process, and destroyed without leaking memory.

running_engine  an engine over one of our torch optimizers, without launcher, MPI or logging
close_engine    destroys the engine and clears DeepSpeed's caches
release_memory  returns freed memory to the operating system
"""

from __future__ import annotations

import gc
import importlib
import inspect
import logging
import os
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from finesearch.training.runtime.distributed import Processes
from finesearch.training.runtime.gradient_clipping import install_fast_clipping
from finesearch.training.runtime.malloc import trim_heap
from finesearch.training.weights.import_bitsandbytes import keep_bitsandbytes_offline

if TYPE_CHECKING:
    from deepspeed import DeepSpeedEngine
    from transformers import PreTrainedModel

# DeepSpeed allocates whole buckets, so they are no larger than the trained parameters.
LARGEST_BUCKET = 50_000_000


@dataclass(frozen=True)
class EngineSettings:
    """micro_batch_size: examples per process and backward pass. gradient_clipping: maximum norm of the gradient."""

    zero_stage: int
    micro_batch_size: int
    accumulation_steps: int
    gradient_clipping: float | None


def prepare_imports(device: torch.device | None = None) -> None:
    """Set DeepSpeed's device and silence its logs, before ``transformers`` or ``deepspeed`` is first imported here.

    Without a device (in a driver, which trains nothing) only the logs are silenced.
    """
    keep_bitsandbytes_offline()
    os.environ.setdefault("DS_BUILD_OPS", "0")
    if device is not None and "deepspeed" not in sys.modules:
        os.environ["DS_ACCELERATOR"] = device.type
    # Warnings internal to torch and DeepSpeed, repeated in the log of every process.
    warnings.filterwarnings("ignore", message=r".*`torch\.distributed\.\w+` is deprecated", category=FutureWarning)
    logger = logging.getLogger("DeepSpeed")
    if _only_errors not in logger.filters:
        # DeepSpeed resets the log level when it is imported; a filter stays.
        logger.addFilter(_only_errors)


def import_deepspeed() -> None:
    """Import DeepSpeed without MLflow, which DeepSpeed's autotuner (unused here) imports where it is installed.

    Importing MLflow takes several times as long as importing DeepSpeed.
    """
    if "mlflow" in sys.modules:
        return
    # Makes `import mlflow` fail.
    sys.modules["mlflow"] = None  # type: ignore[assignment]
    try:
        importlib.import_module("deepspeed")
    finally:
        del sys.modules["mlflow"]


def _only_errors(record: logging.LogRecord) -> bool:
    return record.levelno >= logging.ERROR


@contextmanager
def running_engine(
    model: PreTrainedModel, optimizer: torch.optim.Optimizer, settings: EngineSettings, processes: Processes
) -> Iterator[DeepSpeedEngine]:
    """An engine over ``model`` inside the block; its memory is released however the block ends."""
    linear = torch.nn.functional.linear
    try:
        engine = open_engine(model, optimizer, settings, processes)
        try:
            yield engine
        finally:
            close_engine(engine)
    finally:
        # ZeRO-3 replaces this function permanently; later trials of the process would differ in their last bits.
        torch.nn.functional.linear = linear


def open_engine(
    model: PreTrainedModel, optimizer: torch.optim.Optimizer, settings: EngineSettings, processes: Processes
) -> DeepSpeedEngine:
    import deepspeed

    trained = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    # ZeRO 1 and 2 refuse an odd size.
    bucket = max(2, min(LARGEST_BUCKET, trained + trained % 2))
    config = {
        "train_micro_batch_size_per_gpu": settings.micro_batch_size,
        "gradient_accumulation_steps": settings.accumulation_steps,
        "gradient_clipping": settings.gradient_clipping or 0.0,
        "steps_per_print": None,
        # DeepSpeed calls torch's optimizers "untested"; our tests compare them to plain PyTorch under every stage.
        "zero_allow_untested_optimizer": True,
        "zero_optimization": {
            "stage": settings.zero_stage,
            "reduce_bucket_size": bucket,
            "allgather_bucket_size": bucket,
            "overlap_comm": processes.device.type == "cuda",
        },
    }
    # Compiled when the first engine opens (15 s, into the home directory), and used for inference alone.
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    # DeepSpeed adopts the process group that exists; it must not look for MPI.
    deepspeed.init_distributed(auto_mpi_discovery=False, verbose=False)
    with _nothing_sent(processes):
        engine, *_ = deepspeed.initialize(model=model, optimizer=optimizer, config=config, dist_init_required=False)
    if settings.zero_stage == 0:
        install_fast_clipping(engine, settings.gradient_clipping)
    if processes.world_size == 1 and settings.zero_stage == 0:
        # A single process has nothing to reduce; DeepSpeed would still copy every gradient twice.
        engine.enable_backward_allreduce = False
    return engine


@contextmanager
def _nothing_sent(processes: Processes) -> Iterator[None]:
    """While an engine is created, keep a single process from broadcasting every parameter to itself.

    Patches a private name of DeepSpeed; a test fails if it disappears.
    """
    from deepspeed import DeepSpeedEngine

    send = DeepSpeedEngine._broadcast_model
    if processes.world_size == 1:
        DeepSpeedEngine._broadcast_model = lambda _: None
    try:
        yield
    finally:
        DeepSpeedEngine._broadcast_model = send


def close_engine(engine: DeepSpeedEngine) -> None:
    """Destroy the engine, and clear two module-level caches of DeepSpeed that would keep a ZeRO-3 model alive."""
    engine.destroy()
    for clear in deepspeed_caches():
        clear()


def release_memory() -> None:
    """Garbage-collect what the last trial left, and return freed pages to the operating system."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    trim_heap()


def freeze_gc() -> None:
    """Exclude all live objects from garbage collection: mostly libraries, which take half a second per collection."""
    gc.freeze()


def deepspeed_caches() -> list[Callable[[], Any]]:
    """Functions that clear the caches that outlive an engine. Private names of DeepSpeed; a test checks they exist."""
    from deepspeed.runtime.zero import parameter_offload
    from deepspeed.runtime.zero.partitioned_param_coordinator import PartitionedParameterCoordinator

    cached = PartitionedParameterCoordinator.__dict__["_PartitionedParameterCoordinator__params_to_release"]
    while not hasattr(cached, "cache_clear"):
        # DeepSpeed's decorators keep the wrapped function only in a closure.
        cached = inspect.getclosurevars(cached).nonlocals["func"]
    return [cached.cache_clear, parameter_offload.FWD_MODULE_STACK.clear]
