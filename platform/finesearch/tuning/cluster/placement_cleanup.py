"""Removes placement groups of worker groups whose trial actor died, so that their devices are free again.

Ray removes a placement group by itself once the actor that created it and the whole job are dead, so a trial actor
that is killed in the middle of a search would keep its devices. Ray Train runs a process for each group that does this,
asks the dashboard, and may stay behind (2.60). Here the driver asks Ray's control store who created a placement group
and whether they are dead. Once the driver is dead, Ray does the rest.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from typing import Any, Self

import ray
from ray._private.state import state
from ray.core.generated.gcs_pb2 import PlacementGroupTableData  # type: ignore[attr-defined]
from ray.exceptions import RayError
from ray.util import remove_placement_group
from ray.util.placement_group import PlacementGroup

WATCH_S = 1.0
log = logging.getLogger(__name__)


class PlacementCleanup:
    """In the block, a thread removes placement groups of this driver's dead trial actors; its end removes all others.

    A group that a trial actor creates after it was counted as dead is removed only at the end; final scoring would
    otherwise wait for its devices for ever. Other drivers' placement groups are not touched.
    """

    def __init__(self) -> None:
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True, name="releasing")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        for group in _groups():
            _remove(group)

    def _watch(self) -> None:
        while not self._over.wait(WATCH_S):
            try:
                for group in _groups():
                    if group.creator_actor_dead and group.creator_actor_id != ray.ActorID.nil().binary():
                        _remove(group)
            except RayError as error:  # the control store is unreachable, and may come back
                log.warning("which placement groups nobody needs cannot be told: %s", error)


def _groups() -> Iterator[Any]:
    """This driver's placement groups in the control store."""
    job = ray.get_runtime_context().get_job_id()
    for written in state._connect_and_get_accessor().get_placement_group_table():
        group = PlacementGroupTableData.FromString(written)
        if group.creator_job_id.hex() == job and group.state != PlacementGroupTableData.REMOVED:
            yield group


def _remove(group: Any) -> None:
    remove_placement_group(PlacementGroup(ray.PlacementGroupID(group.placement_group_id)))
