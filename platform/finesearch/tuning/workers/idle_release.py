"""Releases the devices of an idle worker group to a group that has a trial and no devices.

Tune keeps one idle trial actor for the next trial. When a node is gone, its trials wait for devices; if fewer trials
run at once from then on, the idle group would hold those devices, and no trial would ever end.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

LOOK_EVERY_S = 2.0
AFTER_A_TRIAL_S, AFTER_AN_EVALUATION_S = 4.0, 20.0
"""How long the trial actor must be without calls. A trial that is stopped at an evaluation ends without a further call;
one that continues is called for its next step at once, unless the driver is very busy."""


class IdleReleaser:
    """Calls ``give_way`` from a thread, under ``lock``, once the group was idle for some time and others wait."""

    def __init__(self, lock: threading.Lock, give_way: Callable[[], None]) -> None:
        self._lock, self._give_way = lock, give_way
        self._idle_from: float | None = None
        self._thread: threading.Thread | None = None

    def begin(self, at_least_s: float) -> None:
        """The group may be idle from now on; it counts as idle after ``at_least_s`` seconds."""
        self._idle_from = time.monotonic() + at_least_s
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, daemon=True, name="idle")
            self._thread.start()

    def end(self) -> None:
        """The group has work; called under the lock."""
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
                    continue  # the head may be too busy to answer; retried in the next round


def groups_without_devices() -> int:
    """Number of this job's worker groups that wait for placement."""
    import ray
    from ray.util import placement_group_table

    from finesearch.tuning.cluster.resource_usage import is_pending_group

    job = ray.get_runtime_context().get_job_id()
    return sum(is_pending_group(name, group, job) for name, group in placement_group_table().items())
