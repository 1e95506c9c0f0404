"""Ray Train's trainer for a warm worker group, without the processes that such a group does not need.

``TorchTrainer`` imports torch in every process that names it, so also in the trial actor, which does not use it. Here
only the workers import it, when they join their process group. Ray Train's controller runs in the trial actor, not in
a process of its own: neither is of use without the other. And no process is started to distribute Ray Data shards
(there are none), to watch the controller (see ``placement_cleanup.py``), or to ask for nodes (see
``node_requests.py``).
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import ray
from ray.exceptions import GetTimeoutError
from ray.train import BackendConfig, get_context
from ray.train.backend import Backend
from ray.train.v2._internal.callbacks import DatasetsCallback
from ray.train.v2._internal.callbacks.placement_group_callback import PlacementGroupCleanerCallback
from ray.train.v2._internal.execution.callback import WorkerGroupCallback
from ray.train.v2._internal.execution.controller import TrainController
from ray.train.v2._internal.execution.scaling_policy.fixed import FixedScalingPolicy
from ray.train.v2._internal.util import TrainingFramework
from ray.train.v2.api.data_parallel_trainer import DataParallelTrainer

from finesearch.tuning.cluster.addresses import free_address

COLLECTIVE_TIMEOUT_S, LEAVING_TIMEOUT_S = 1800.0, 30.0


class WarmTrainer(DataParallelTrainer):
    """Runs a function on all workers of a group; see ``TorchProcessGroupConfig`` for their process group.

    is_over: whether the group has no more work; then lost workers are not replaced.
    """

    def __init__(self, *arguments: Any, is_over: Callable[[], bool], **settings: Any) -> None:
        super().__init__(*arguments, **settings)
        self._is_over = is_over

    def _create_default_callbacks(self) -> list[Any]:
        every: list[Any] = super()._create_default_callbacks()
        others = (DatasetsCallback, PlacementGroupCleanerCallback)
        return [_NotWhenOver(self._is_over), *(callback for callback in every if not isinstance(callback, others))]

    def _initialize_and_run_controller(self, **parts: Any) -> Any:
        parts["scaling_policy"] = _AsManyAsPlanned(self.scaling_config)  # type: ignore[arg-type]
        controller = TrainController(**parts)
        asyncio.run(controller.run())  # type: ignore[no-untyped-call]
        return controller.get_result()


class _AsManyAsPlanned(FixedScalingPolicy):
    """Requests no nodes: a pending placement group is the request, and it ends with the group.

    Ray Train's own policy waits for an actor that keeps such requests, once in the life of a cluster, and requests
    every group's devices again each 20 seconds, for 180 seconds.
    """

    def after_controller_start(self, train_run_context: Any) -> None:
        """Nothing."""

    def _maybe_send_resource_request(self) -> None:
        """Nothing."""


class GroupOver(Exception):  # noqa: N818
    """The group has no more work for the workers that were about to start."""


class _NotWhenOver(WorkerGroupCallback):
    def __init__(self, is_over: Callable[[], bool]) -> None:
        self._is_over = is_over

    def before_worker_group_start(self, worker_group_context: Any) -> None:
        """Start no workers that would be ended at once.

        Raises:
            GroupOver: there is no more work.
        """
        if self._is_over():
            raise GroupOver("its trial actor has no more trials for it")


class TorchProcessGroupConfig(BackendConfig):
    """A torch process group over the workers, where there are several; a single worker needs no network.

    backend: ``nccl`` or ``gloo``.
    """

    def __init__(self, backend: str) -> None:
        self.backend = backend

    @property
    def backend_cls(self) -> type[Backend]:
        return _ProcessGroupBackend

    @property
    def framework(self) -> TrainingFramework:
        return TrainingFramework.TORCH

    def to_dict(self) -> dict[str, Any]:
        return {"backend": self.backend}


class _ProcessGroupBackend(Backend):
    """Runs in the controller; functions that it passes to ``execute`` run in the workers."""

    # Workers of a node see each other's GPUs, as NCCL requires; each uses the one of its local rank.
    share_cuda_visible_devices = True

    def on_start(self, worker_group: Any, backend_config: BackendConfig) -> None:
        assert isinstance(backend_config, TorchProcessGroupConfig)
        address, port = worker_group.execute_single(0, free_address)
        worker_group.execute(join, backend_config.backend, address, port)

    def on_shutdown(self, worker_group: Any, backend_config: BackendConfig) -> None:
        try:
            ray.get(worker_group.execute_async(leave), timeout=LEAVING_TIMEOUT_S)
        except GetTimeoutError:
            return  # a worker hangs and is about to be ended


def join(backend: str, address: str, port: int) -> None:
    """Set this process's rank variables as torch's launchers do, and join the process group."""
    context = get_context()
    variables = {
        "MASTER_ADDR": address,
        "MASTER_PORT": port,
        "RANK": context.get_world_rank(),
        "WORLD_SIZE": context.get_world_size(),
        "LOCAL_RANK": context.get_local_rank(),
        "LOCAL_WORLD_SIZE": context.get_local_world_size(),
        "NODE_RANK": context.get_node_rank(),
    }
    os.environ.update({name: str(value) for name, value in variables.items()})
    if backend == "nccl":
        # A collective that times out ends the process instead of continuing with wrong data.
        os.environ.setdefault("TORCH_NCCL_ASYNC_ERROR_HANDLING", "1")
    if context.get_world_size() > 1:
        import torch.distributed as dist

        dist.init_process_group(backend, init_method="env://", timeout=timedelta(seconds=COLLECTIVE_TIMEOUT_S))


def leave() -> None:
    """Leave the process group."""
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        import torch.distributed as dist

        if dist.is_initialized():
            dist.destroy_process_group()
