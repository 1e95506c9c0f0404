"""A worker group without a trial gives its devices to one that has a trial and no devices.

Tune keeps one trial actor that has nothing to do, for the next trial. When a node is gone, its trials wait for devices;
if fewer trials run at once from then on, the idle group would hold what they wait for, and no trial would ever end.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

LOOK_EVERY_S = 2.0
AFTER_A_TRIAL_S, AFTER_AN_EVALUATION_S = 4.0, 20.0
"""How long nothing must have been asked of the trial actor. A trial that is stopped at an evaluation ends without
another word to it; one that goes on is asked for its next step at once, unless the driver is very busy."""


class IdleReleaser:
    """Calls ``give_way`` from a thread, under ``lock``, once the group was idle for a while and others wait."""

    def __init__(self, lock: threading.Lock, give_way: Callable[[], None]) -> None:
        self._lock, self._give_way = lock, give_way
        self._idle_from: float | None = None
        self._thread: threading.Thread | None = None

    def begin(self, at_least_s: float) -> None:
        """From now on the group may have nothing to do; it has not if this stays so for a while."""
        self._idle_from = time.monotonic() + at_least_s
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, daemon=True, name="idle")
            self._thread.start()

    def end(self) -> None:
        """It has something to do; called under the lock."""
        self._idle_from = None

    def _run(self) -> None:
        from ray.exceptions import RayError

        while True:
            time.sleep(LOOK_EVERY_S)
            with self._lock:
                if self._idle_from is None or time.monotonic() < self._idle_from:
                    continue
                try:
                    if groups_without_devices():
                        self._idle_from = None
                        self._give_way()
                except (RayError, ConnectionError, TimeoutError):
                    continue  # the head may be too busy to answer; the next look will do


def groups_without_devices() -> int:
    """Worker groups of this job that have been asked for and not been placed."""
    import ray
    from ray.util import placement_group_table

    from finesearch.tuning.cluster.resource_usage import is_pending_group

    job = ray.get_runtime_context().get_job_id()
    return sum(is_pending_group(name, group, job) for name, group in placement_group_table().items())
