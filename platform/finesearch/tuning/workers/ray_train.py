"""Ray Train's trainer of a worker group, held to what such a group needs.

``TorchTrainer`` imports torch in whatever process names it: in the trial actor, which computes nothing with it. Here
the workers alone import it, when they join their process group. Ray Train's controller runs in the trial actor, not in
a process of its own: neither is of use without the other. And no process is started to hand out shards of Ray Data
sets, of which there are none, to watch the controller (see ``release``), or to ask for nodes (see ``wanted``).
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
    """Runs a function on all workers of a group; see ``TorchProcessGroupConfig`` for what they have in common.

    is_over: whether the group has no more work; then no workers are started in the place of any that were lost.
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
    """Asks nobody for nodes: a placement group that waits says what is needed, and nothing stands once it is gone.

    Ray Train's own waits for an actor that keeps such requests, once in the life of a cluster, and asks for every
    group's devices again each 20 seconds, for 180 seconds.
    """

    def after_controller_start(self, train_run_context: Any) -> None:
        """Nothing."""

    def _maybe_send_resource_request(self) -> None:
        """Nothing."""


class GroupOver(Exception):  # noqa: N818
    """Nobody needs the workers that were about to start."""


class _NotWhenOver(WorkerGroupCallback):
    def __init__(self, is_over: Callable[[], bool]) -> None:
        self._is_over = is_over

    def before_worker_group_start(self, worker_group_context: Any) -> None:
        """Start nothing that would be ended at once.

        Raises:
            GroupOver: there is no more work.
        """
        if self._is_over():
            raise GroupOver("its trial actor has no more trials for it")


class TorchProcessGroupConfig(BackendConfig):
    """A process group of torch over the workers, where there are several; one that is alone needs no network.

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
    """Runs in the controller; what it hands to ``execute`` runs in the workers."""

    # Workers of a node see each other's GPUs, as NCCL wants it; each takes that of its local rank.
    share_cuda_visible_devices = True

    def on_start(self, worker_group: Any, backend_config: BackendConfig) -> None:
        assert isinstance(backend_config, TorchProcessGroupConfig)
        address, port = worker_group.execute_single(0, free_address)
        worker_group.execute(join, backend_config.backend, address, port)

    def on_shutdown(self, worker_group: Any, backend_config: BackendConfig) -> None:
        try:
            ray.get(worker_group.execute_async(leave), timeout=LEAVING_TIMEOUT_S)
        except GetTimeoutError:
            return  # a worker hangs; it is about to be ended


def join(backend: str, address: str, port: int) -> None:
    """Tell this process who it is among its group's, the way torch's launchers do, and meet the others."""
    context = get_context()
    said = {
        "MASTER_ADDR": address,
        "MASTER_PORT": port,
        "RANK": context.get_world_rank(),
        "WORLD_SIZE": context.get_world_size(),
        "LOCAL_RANK": context.get_local_rank(),
        "LOCAL_WORLD_SIZE": context.get_local_world_size(),
        "NODE_RANK": context.get_node_rank(),
    }
    os.environ.update({name: str(value) for name, value in said.items()})
    if backend == "nccl":
        # A collective that times out ends the process, instead of going on with what it has.
        os.environ.setdefault("TORCH_NCCL_ASYNC_ERROR_HANDLING", "1")
    if context.get_world_size() > 1:
        import torch.distributed as dist

        dist.init_process_group(backend, init_method="env://", timeout=timedelta(seconds=COLLECTIVE_TIMEOUT_S))


def leave() -> None:
    """End this process's part in the group."""
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        import torch.distributed as dist

        if dist.is_initialized():
            dist.destroy_process_group()
