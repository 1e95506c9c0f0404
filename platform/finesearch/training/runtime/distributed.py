"""The process group that trains one trial: ranks, device, collectives. A single process communicates nothing."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar, cast

import torch
import torch.distributed as dist
from torch.distributed import HashStore  # type: ignore[attr-defined]

from finesearch.errors import FinesearchError, PlacementError, TrialError
from finesearch.training.runtime.background import has_ended, in_background

T = TypeVar("T")


@dataclass(frozen=True)
class Processes:
    """This process's rank and its collectives with the other processes of the trial."""

    rank: int
    world_size: int
    device: torch.device

    @property
    def is_rank_zero(self) -> bool:
        return self.rank == 0

    @property
    def padding_multiple(self) -> int:
        """Batches are padded to a multiple of this: tensor cores prefer such widths, a CPU gains nothing from them."""
        return 8 if self.device.type == "cuda" else 1

    def total(self, *values: float) -> list[float]:
        """The sums of some numbers over all processes, the same in each of them."""
        if self.world_size == 1:
            return list(values)
        tensor = torch.tensor(values, dtype=torch.float64, device=self._wire)
        dist.all_reduce(tensor)
        return tensor.tolist()

    def all_gather(self, value: T) -> list[T]:
        """Every rank's value in the order of ranks, in every process."""
        if self.world_size == 1:
            return [value]
        values: list[Any] = [None] * self.world_size
        dist.all_gather_object(values, value)
        return values

    def run_on_rank_zero(self, work: Callable[[], T]) -> T:
        """Run ``work`` on rank 0 and return its result in every process; if it raised, every process raises."""
        if self.world_size == 1:
            return work()
        outcome: list[Any] = [None]
        raised: Exception | None = None
        if self.is_rank_zero:
            try:
                outcome[0] = (True, work())
            except Exception as error:  # re-raised below, on every rank
                raised = error
                outcome[0] = (False, _portable(error))
        dist.broadcast_object_list(outcome, src=0)
        succeeded, value = outcome[0]
        if succeeded:
            return cast(T, value)
        raise raised or value

    def run_long_on_rank_zero(self, work: Callable[[], T]) -> T:
        """As ``run_on_rank_zero``, for work that may take longer than a collective waits: it runs in a thread, and the
        others ask again every ``WAIT_STEP_S``. ``work`` must not communicate with them."""
        if self.world_size == 1:
            return work()
        future = in_background(lambda: self._on_own_device(work)) if self.is_rank_zero else None
        while not self.run_on_rank_zero(lambda: has_ended(future)):  # type: ignore[arg-type]
            pass
        return self.run_on_rank_zero(lambda: future.result())  # type: ignore[union-attr]

    def _on_own_device(self, work: Callable[[], T]) -> T:
        if self.device.type == "cuda":
            torch.cuda.set_device(self.device)  # the current device is that of a thread
        return work()

    def raise_on_all_ranks(self, problem: Exception | None) -> None:
        """Raise the same error in every process when any of them has a problem; our own error types come first."""
        own = problem if self.world_size == 1 else _portable(problem)
        problems = [met for met in self.all_gather(own) if met is not None]
        if problems:
            chosen = min(problems, key=lambda met: isinstance(met, TrialError))
            raise problem if problem is not None and str(own) == str(chosen) else chosen

    @property
    def _wire(self) -> torch.device:
        return self.device if "nccl" in dist.get_backend() else torch.device("cpu")


def _portable(error: Exception | None) -> Exception | None:
    """The error as it is sent to other processes: our own types pickle, those of libraries may not."""
    if error is None or isinstance(error, FinesearchError):
        return error
    return TrialError(f"{type(error).__name__}: {error}")


def choose_device(gpus_per_worker: float) -> torch.device:
    """A GPU where the plan gives the worker one, else the CPU.

    Raises:
        PlacementError: the plan gives it one and there is none.
    """
    if gpus_per_worker <= 0:
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise PlacementError(
            f"training.gpus_per_worker: this worker is to use a GPU ({gpus_per_worker:g}), but torch "
            f"{torch.__version__} sees none. Install a CUDA build of torch on the node, or set gpus_per_worker to 0."
        )
    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))


def join_process_group(gpus_per_worker: float, workers_per_trial: int) -> Processes:
    """This process's ``Processes``, from the process group that the caller made; a single process makes its own.

    Raises:
        PlacementError: the group's size is not the plan's, or there is no GPU.
    """
    device = choose_device(gpus_per_worker)
    if device.type == "cuda":
        torch.cuda.set_device(device)
    if not dist.is_initialized() and workers_per_trial == 1:
        _make_lone_group(device)
    world_size = dist.get_world_size() if dist.is_initialized() else 1
    if world_size != workers_per_trial:
        raise PlacementError(
            f"training.workers_per_trial: expected {workers_per_trial} processes in this trial's process group, got "
            f"{world_size}. Start that many, and call torch.distributed.init_process_group in each of them first."
        )
    rank = dist.get_rank()
    defaults = {
        "RANK": rank,
        "LOCAL_RANK": 0,
        "WORLD_SIZE": world_size,
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": 29500,
    }
    for name, value in defaults.items():
        # DeepSpeed looks for a launcher, then for MPI, unless it finds these.
        os.environ.setdefault(name, str(value))
    return Processes(rank, world_size, device)


def _make_lone_group(device: torch.device) -> None:
    """A process group of one without network: its store is in memory, and gloo uses the loopback interface."""
    named = os.environ.get("GLOO_SOCKET_IFNAME")
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    try:
        backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
        dist.init_process_group(backend, store=HashStore(), rank=0, world_size=1)
    finally:
        # Later groups of this process may span hosts.
        if named is None:
            os.environ.pop("GLOO_SOCKET_IFNAME", None)
