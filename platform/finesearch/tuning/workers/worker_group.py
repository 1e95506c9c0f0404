"""One warm worker group: a Ray Train run whose workers serve trial after trial, and the mailbox that feeds it."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import ray
from ray.train import FailureConfig, RunConfig, ScalingConfig
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from finesearch.tuning.messages import Job, TrialEvent
from finesearch.tuning.workers.live_trials import mailbox_prefix
from finesearch.tuning.workers.mailbox_actor import MailboxActor
from finesearch.tuning.workers.ray_train import TorchProcessGroupConfig, WarmTrainer
from finesearch.tuning.workers.worker_loop import JobRunner, WorkerLoopConfig, serve

CONDEMNED_GRACE_S = 20.0
CONTROLLER_FAILURES = 20  # retry limit: a group that cannot start would be retried for ever


@dataclass(frozen=True, kw_only=True)
class GroupSettings:
    """Settings of all worker groups of a search."""

    make_runner: Callable[[], JobRunner]
    workers: int
    cpus_per_worker: float
    gpus_per_worker: float
    hang_timeout_s: float
    fresh: bool
    run_name: str
    scratch: str


class GroupLost(Exception):  # noqa: N818
    """The group ended and will not restart; the trial actor that owns it has to be replaced."""


class WarmGroup:
    """Owned by one trial actor; when that dies, Ray ends the mailbox, and the workers end themselves."""

    def __init__(self, settings: GroupSettings, name: str) -> None:
        self._settings, self._name = settings, name
        # max_concurrency: each rank may have one blocking call, besides heartbeats and watchers.
        # On this actor's node: Ray would place an actor without resources on any node, and lose it with that node.
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        self._mailbox: Any = (
            ray.remote(MailboxActor)
            .options(
                name=f"{mailbox_prefix(settings.run_name)}{name}-{uuid.uuid4().hex[:8]}",
                num_cpus=0,
                max_concurrency=100 + 4 * settings.workers,
                scheduling_strategy=here,
            )
            .remote(settings.run_name)
        )
        self._over = threading.Event()
        self._failure: BaseException | None = None
        self._fit = threading.Thread(target=self._run, daemon=True, name=f"fit-{name}")
        self._fit.start()

    def _run(self) -> None:
        settings = self._settings
        per_worker: dict[str, float] = {"CPU": settings.cpus_per_worker}
        if settings.gpus_per_worker:
            per_worker["GPU"] = settings.gpus_per_worker
        loop_config = WorkerLoopConfig(
            self._mailbox, settings.make_runner, settings.fresh, self._name, settings.run_name
        )
        try:
            WarmTrainer(
                serve,
                train_loop_config={"loop_config": loop_config},
                is_over=self._over.is_set,
                backend_config=TorchProcessGroupConfig("nccl" if settings.gpus_per_worker else "gloo"),
                scaling_config=ScalingConfig(
                    num_workers=settings.workers,
                    use_gpu=settings.gpus_per_worker > 0,
                    resources_per_worker=per_worker,
                ),
                run_config=RunConfig(
                    # No time stamp in the name: the workers' folders would differ.
                    name=f"{settings.run_name}-{self._name}",
                    storage_path=settings.scratch,
                    failure_config=FailureConfig(max_failures=-1, controller_failure_limit=CONTROLLER_FAILURES),  # type: ignore[call-arg]
                ),
            ).fit()
        except BaseException as error:
            self._failure = error

    def begin(self, job: Job) -> tuple[int, TrialEvent]:
        """Give the group its next trial; returns its generation and first event.

        Raises:
            GroupLost: as :meth:`go_on`.
        """
        generation, event = ray.get(self._mailbox.begin.remote(job))
        return generation, event or self.go_on(generation)

    def go_on(self, generation: int, allowed: int | None = None) -> TrialEvent:
        """The next event of the trial.

        Args:
            allowed: step of the evaluation after which it continues.

        Raises:
            GroupLost: the Ray Train run ended, or a hanging worker could not be ended from within.
        """
        condemned_at: float | None = None
        while True:
            event: TrialEvent | None = ray.get(self._mailbox.next_event.remote(generation, allowed=allowed))
            if event is not None:
                return event
            if not self._fit.is_alive():
                raise GroupLost(f"{self._name}: its Ray Train run ended: {self._failure}")
            seconds_since_heartbeat = ray.get(self._mailbox.seconds_since_heartbeat.remote())
            if seconds_since_heartbeat > self._settings.hang_timeout_s:
                ray.get(self._mailbox.condemn.remote())
                condemned_at = time.monotonic()
            elif condemned_at is not None:
                if seconds_since_heartbeat > 0:  # another incarnation has taken the trial
                    condemned_at = None
                elif time.monotonic() - condemned_at > CONDEMNED_GRACE_S:
                    raise GroupLost(f"{self._name}: a worker hangs and does not end when told to")

    def close(self, timeout_s: float = 3.0) -> None:
        """Let the workers return and the run end."""
        self._over.set()
        ray.get(self._mailbox.close.remote())
        self._fit.join(timeout_s)
