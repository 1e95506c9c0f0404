"""The DeepSpeed engine of one trial: set up in a warm process, and taken down without a trace.

open_engine   ZeRO 0-3 over a torch optimizer of ours, no launcher, no MPI, nothing logged
close_engine  destroys it and gives its memory back to the system
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

if TYPE_CHECKING:
    from deepspeed import DeepSpeedEngine
    from transformers import PreTrainedModel

# DeepSpeed allocates its buckets whole, so they are no larger than what is trained.
LARGEST_BUCKET = 50_000_000


@dataclass(frozen=True)
class EngineSettings:
    """micro_batch_size: examples a process and backward pass. gradient_clipping: largest norm of the whole gradient."""

    zero_stage: int
    micro_batch_size: int
    accumulation_steps: int
    gradient_clipping: float | None


def prepare_imports(device: torch.device | None = None) -> None:
    """Hold DeepSpeed to the device and silence it, before ``transformers`` or ``deepspeed`` is first imported here.

    Without a device (in a driver, which trains nothing) only the logging is silenced.
    """
    os.environ.setdefault("DS_BUILD_OPS", "0")
    if device is not None and "deepspeed" not in sys.modules:
        os.environ["DS_ACCELERATOR"] = device.type
    # Torch's and DeepSpeed's own affair, and told once a process in every log.
    warnings.filterwarnings("ignore", message=r".*`torch\.distributed\.\w+` is deprecated", category=FutureWarning)
    logger = logging.getLogger("DeepSpeed")
    if _only_errors not in logger.filters:
        # A level would be set back when DeepSpeed is imported; a filter stays.
        logger.addFilter(_only_errors)


def import_deepspeed() -> None:
    """Import DeepSpeed without MLflow, which its autotuner, used by nobody here, imports wherever it is installed.

    It takes as long as DeepSpeed itself, several times over.
    """
    if "mlflow" in sys.modules:
        return
    # So that importing it fails.
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
    """An engine over ``model`` for as long as the block runs; its memory is given back however the block ends."""
    linear = torch.nn.functional.linear
    try:
        engine = open_engine(model, optimizer, settings, processes)
        try:
            yield engine
        finally:
            close_engine(engine)
    finally:
        # ZeRO-3 puts its own in place for good; later trials of the process would differ in their last bits.
        torch.nn.functional.linear = linear


def open_engine(
    model: PreTrainedModel, optimizer: torch.optim.Optimizer, settings: EngineSettings, processes: Processes
) -> DeepSpeedEngine:
    import deepspeed

    trained = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    bucket = max(1, min(LARGEST_BUCKET, trained))
    config = {
        "train_micro_batch_size_per_gpu": settings.micro_batch_size,
        "gradient_accumulation_steps": settings.accumulation_steps,
        "gradient_clipping": settings.gradient_clipping or 0.0,
        "steps_per_print": None,
        # Torch's own optimizers are "untested" to DeepSpeed; our tests hold them to plain PyTorch under every stage.
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
        # Alone there is nothing to reduce; DeepSpeed would copy every gradient twice all the same.
        engine.enable_backward_allreduce = False
    return engine


@contextmanager
def _nothing_sent(processes: Processes) -> Iterator[None]:
    """While an engine is made, have a lone process not send itself each of the model's parameters.

    A private name of DeepSpeed: a test holds us to it.
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
    """Destroy the engine. Two module-level caches of DeepSpeed would keep a ZeRO-3 model alive: they are cleared."""
    engine.destroy()
    for clear in deepspeed_caches():
        clear()


def release_memory() -> None:
    """Collect what the last trial left, once nothing refers to it, and hand freed pages back to the system."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    trim_heap()


def freeze_gc() -> None:
    """Have the collector pass over all that is alive now: libraries, mostly, which cost it half a second each time."""
    gc.freeze()


def deepspeed_caches() -> list[Callable[[], Any]]:
    """What empties the caches that outlive an engine. Private names of DeepSpeed: a test holds us to them."""
    from deepspeed.runtime.zero import parameter_offload
    from deepspeed.runtime.zero.partitioned_param_coordinator import PartitionedParameterCoordinator

    cached = PartitionedParameterCoordinator.__dict__["_PartitionedParameterCoordinator__params_to_release"]
    while not hasattr(cached, "cache_clear"):
        # DeepSpeed's decorators keep what they wrap in a closure only.
        cached = inspect.getclosurevars(cached).nonlocals["func"]
    return [cached.cache_clear, parameter_offload.FWD_MODULE_STACK.clear]
