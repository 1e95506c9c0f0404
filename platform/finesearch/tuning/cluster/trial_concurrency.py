"""Concurrency limit: how many trials run at once, while nodes come and go.

initial_concurrency   before the first trial: what fits; where nothing does, asks for nodes and waits for them
ConcurrencyUpdater    during the search: the limit follows the devices that this job may hold
"""

from __future__ import annotations

import contextlib
import math
import os
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace

from finesearch.errors import PlacementError
from finesearch.plan import Plan
from finesearch.tuning.cluster.capacity import (
    Capacity,
    asked,
    fit_concurrency,
    read_capacity,
    trials_that_fit,
    trials_that_fit_memory,
)
from finesearch.tuning.cluster.node_requests import AutoscalerReply, NodeRequests
from finesearch.tuning.cluster.pending_reasons import summarize_pending
from finesearch.tuning.cluster.resource_usage import ResourceUsage, read_resource_usage
from finesearch.tuning.controller.search_controller import Concurrency, SearchController

LOOK_EVERY_S = 2.0
SAY_EVERY_S = 60.0
WAIT_FOR_NODES_S = 900.0
"""How long a search waits for its first nodes where the autoscaler does not report whether it can add them."""
WAITS_AFTER = 5
"""Consecutive updates that must find a worker group without devices before it is reported: starting takes seconds."""
ASK_AGAIN_S = (60.0, 600.0)
"""First and longest pause before a refused request for nodes is repeated; doubled each time."""

MOST_ASKED = 16
"""Trials for which devices are requested at once, at most."""

Say = Callable[[str], None]


def initial_concurrency(plan: Plan, worker_bytes: int, say: Say) -> tuple[Capacity, int]:
    """The cluster's capacity, and the trial concurrency to start with.

    On a joined cluster that is too small, asks for nodes and waits as long as the autoscaler reports that it can add
    them, or ``WAIT_FOR_NODES_S`` where it reports nothing.

    Raises:
        PlacementError: not even one trial fits, or fewer than the plan asks for, and no node will change that.
    """
    capacity = read_capacity()
    try:
        return capacity, fit_concurrency(plan, capacity, worker_bytes)
    except PlacementError as refusal:
        if not os.environ.get("RAY_ADDRESS"):
            raise
        return _wait_for_nodes(plan, worker_bytes, say, refusal)


def _wait_for_nodes(plan: Plan, worker_bytes: int, say: Say, refusal: PlacementError) -> tuple[Capacity, int]:
    began, said_at = time.monotonic(), -math.inf
    node_requests = NodeRequests(plan)
    missing = 1 if plan.search.concurrent_trials == "auto" else int(plan.search.concurrent_trials)
    try:
        while True:
            capacity = read_capacity()
            with contextlib.suppress(PlacementError):
                return capacity, fit_concurrency(plan, capacity, worker_bytes)
            there = trials_that_fit(plan, capacity.nodes)
            node_requests.ask(missing - there)
            answer = node_requests.answer()
            waited_s = time.monotonic() - began
            if answer.refused:
                raise refusal
            if answer.is_known and there:
                return capacity, there
            if not answer.is_known and waited_s > WAIT_FOR_NODES_S:
                raise PlacementError(
                    f"{refusal.message} Nodes were asked for, and none came within {WAIT_FOR_NODES_S / 60:.0f} minutes."
                )
            if (answer.is_known or waited_s > 10) and time.monotonic() - said_at >= SAY_EVERY_S:
                said_at = time.monotonic()
                knows = "can add them" if answer.is_known else "does not say whether it can add them"
                say(
                    f"{plan.name}: waiting for nodes: the cluster has {capacity.describe()}; its autoscaler was asked "
                    f"for {missing - there} more of {asked(plan)}, and {knows}"
                )
            time.sleep(1.0)
    finally:
        node_requests.end()


def updated_concurrency(plan: Plan, capacity: Capacity, worker_bytes: int) -> int:
    """Trial concurrency in the middle of a search: as many as fit, at least one, at most the plan's limit."""
    most = max(1, trials_that_fit(plan, capacity.nodes))
    if plan.search.concurrent_trials != "auto":
        return min(most, int(plan.search.concurrent_trials))
    return max(1, min(most, trials_that_fit_memory(plan, capacity, worker_bytes), plan.budget.trials))


class ConcurrencyUpdater:
    """A thread of the driver that reads the cluster's usage every ``LOOK_EVERY_S``.

    It sets the controller's concurrency. Where more trials are to run than fit, it asks for nodes. The limit is lowered
    only once two readings agree: while a worker group starts, its devices are for a moment neither free nor its own.
    """

    def __init__(self, plan: Plan, worker_bytes: int, controller: SearchController) -> None:
        self._plan, self._worker_bytes, self._controller = plan, worker_bytes, controller
        self._node_requests = NodeRequests(plan)
        self._memory_bytes = sys.maxsize
        self._lower: int | None = None
        self._looks_waiting = 0
        self._most_asked, self._ask_at, self._pause_s = MOST_ASKED, 0.0, ASK_AGAIN_S[0]
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True, name="room")

    def __enter__(self) -> ConcurrencyUpdater:
        # A Ray that was started here has one node throughout the search.
        if os.environ.get("RAY_ADDRESS"):
            # Of a lone node what was available counts, which is less now that a search runs on it.
            self._memory_bytes = read_capacity().memory_bytes
            self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._stop.set()
        if self._thread.ident is not None:
            self._thread.join()
            self._node_requests.end()
            self._controller.set_concurrency(Concurrency(self._controller.concurrency.concurrent_trials))

    def _run(self) -> None:
        from ray.exceptions import RayError

        while not self._stop.wait(LOOK_EVERY_S):
            # The head may be too busy to answer; the next update will do.
            with contextlib.suppress(RayError, ConnectionError, TimeoutError):
                self.update(read_resource_usage())

    def update(self, resource_usage: ResourceUsage) -> None:
        """Act on a reading of the cluster."""
        capacity = resource_usage.capacity
        if len(capacity.nodes) == 1:
            capacity = replace(capacity, memory_bytes=min(capacity.memory_bytes, self._memory_bytes))
        fits = updated_concurrency(self._plan, capacity, self._worker_bytes)
        concurrent = self._controller.concurrency.concurrent_trials
        if fits >= concurrent:
            concurrent, self._lower = fits, None
        elif self._lower is None:
            self._lower = fits
        else:
            concurrent, self._lower = max(fits, self._lower), None
        self._looks_waiting = self._looks_waiting + 1 if resource_usage.waiting else 0
        is_waiting = self._looks_waiting >= WAITS_AFTER
        self._controller.set_concurrency(
            Concurrency(
                concurrent_trials=concurrent,
                waiting=summarize_pending(self._plan, resource_usage) if is_waiting else None,
                no_trial_has_devices=is_waiting and resource_usage.waiting >= self._controller.running > 0,
            )
        )
        self._ask_for_more(resource_usage)

    def _ask_for_more(self, resource_usage: ResourceUsage) -> None:
        now = time.monotonic()
        target = self._controller.trials_left
        if self._plan.search.concurrent_trials != "auto":
            target = min(target, int(self._plan.search.concurrent_trials))
        # The placement groups of waiting worker groups are requests already.
        is_enough = resource_usage.waiting or self._controller.stop_reason
        more = 0 if is_enough else target - max(1, trials_that_fit(self._plan, resource_usage.capacity.nodes))
        if now >= self._ask_at:
            self._most_asked = MOST_ASKED
        more = max(0, min(more, self._most_asked))
        self._node_requests.ask(more)
        answer = self._node_requests.answer() if more else AutoscalerReply()
        if answer.refused:
            self._most_asked = more - answer.refused
            self._ask_at = math.inf if answer.is_static else now + self._pause_s
            self._pause_s = min(2 * self._pause_s, ASK_AGAIN_S[1])
