"""Giving back the devices of a worker group whose Ray Train controller died, whatever ended it.

Ray removes a placement group by itself once the actor that asked for it and the whole job are dead, so a trial actor
that is killed in the middle of a search would keep its devices. Ray Train has a helper for that, which asks the
dashboard, fails where there is none or where a second Ray runs on the host, and ends its thread instead of its
process once it has done its work (2.60). The one here asks Ray's control store.
"""

from __future__ import annotations

import logging
import threading
from typing import Any

import ray
from ray._common.constants import HEAD_NODE_RESOURCE_NAME
from ray._private.state import state
from ray.exceptions import RayActorError, RayError
from ray.train.v2._internal.execution.callback import ControllerCallback, WorkerGroupCallback
from ray.util import remove_placement_group

WATCH_S = 1.0
log = logging.getLogger(__name__)


class GroupReleaser:
    """An actor that outlives the controller that made it, and ends soon after.

    It watches from its first moment on: of a controller that dies meanwhile no further call would come.
    """

    def __init__(self, controller: str) -> None:
        self._held: Any = None
        self._over = threading.Event()
        threading.Thread(target=self._watch, args=(controller,), daemon=True, name="watch").start()

    def hold(self, group: Any) -> None:
        """The placement group to give back, in place of any before."""
        self._held = group

    def stop(self) -> None:
        """End; the controller gives its devices back itself."""
        self._over.set()
        ray.actor.exit_actor()  # type: ignore[no-untyped-call]

    def _watch(self, controller: str) -> None:
        while not self._over.wait(WATCH_S):
            try:
                if state.actor_table(controller).get("State", "DEAD") != "DEAD":
                    continue
                if self._held is not None:
                    remove_placement_group(self._held)  # nothing happens where that was done
            except RayError as error:  # the control store is away, and may come back
                log.warning("whether the controller %s lives cannot be told: %s", controller, error)
                continue
            # To leave from a thread would end the thread alone.
            ray.kill(ray.get_runtime_context().current_actor)
            return


class GroupClosed(Exception):  # noqa: N818
    """Nobody needs the worker group that was about to start."""


class ReleaseGroup(ControllerCallback, WorkerGroupCallback):
    """Runs in the controller; starts a ``GroupReleaser`` and tells it what to give back.

    mailbox: that of the group, asked before workers are started: a placement group that a controller asks for when Ray
    has counted it as dead is never removed.
    """

    def __init__(self, mailbox: Any) -> None:
        self._mailbox = mailbox
        self._releaser: Any = None

    def after_controller_start(self, train_run_context: Any) -> None:
        """Start the releaser."""
        self._start()

    def _start(self) -> None:
        # On the head, since nodes come and go; "DEFAULT": not in the trial's placement group, where this actor runs.
        self._releaser = (
            ray.remote(GroupReleaser)
            .options(
                num_cpus=0,
                lifetime="detached",
                resources={HEAD_NODE_RESOURCE_NAME: 0.001},
                scheduling_strategy="DEFAULT",
            )
            .remote(ray.get_runtime_context().get_actor_id())
        )

    def before_worker_group_start(self, worker_group_context: Any) -> None:
        """Start nothing that would be ended at once.

        Raises:
            GroupClosed, RayActorError: the mailbox is closed; it is gone.
        """
        if ray.get(self._mailbox.is_closed.remote()):
            raise GroupClosed("its trial actor has no more trials for it")

    def after_worker_group_start(self, worker_group: Any) -> None:
        """Tell which placement group it is."""
        group = worker_group.get_worker_group_state().placement_group_handle.placement_group
        try:
            ray.get(self._releaser.hold.remote(group))
        except RayActorError:  # somebody killed it
            self._start()
            ray.get(self._releaser.hold.remote(group))

    async def before_controller_shutdown(self) -> None:
        """End the releaser."""
        try:
            await self._releaser.stop.remote()
        except RayActorError:
            return  # it ends within the call
