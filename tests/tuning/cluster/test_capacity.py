"""How many trials run at once on which cluster."""

from __future__ import annotations

import pytest

from finesearch.errors import PlacementError
from finesearch.tuning.cluster.capacity import GROUP_BYTES, Capacity, Node, fit_concurrency
from plans import empty_plan

MANY = 10**12
AUTO = "{pruner: none, concurrent_trials: auto}"


def fitted(training: str, *nodes: Node, memory: int = MANY, search: str = AUTO, worker_bytes: int = 5 * 10**8) -> int:
    plan = empty_plan(training=training, search=search, budget="{trials: 100}")
    return fit_concurrency(plan, Capacity(nodes, memory), worker_bytes)


def test_as_many_trials_run_as_the_devices_hold() -> None:
    assert fitted("{cpus_per_worker: 2}", Node(8)) == 4
    assert fitted("{gpus_per_worker: 1, cpus_per_worker: 2}", Node(8, 2), Node(8, 2)) == 4
    assert fitted("{workers_per_trial: 2, gpus_per_worker: 1}", Node(8, 2), Node(8, 1)) == 1


def test_a_worker_never_spans_two_nodes() -> None:
    assert fitted("{cpus_per_worker: 2}", Node(3), Node(3)) == 2
    # A GPU without free CPUs beside it, on another node than the CPUs, is of no use.
    with pytest.raises(PlacementError, match=r"2 nodes, 17 CPUs, 4 GPUs, .* which hold 0 such worker\(s\)"):
        fitted("{gpus_per_worker: 1, cpus_per_worker: 4}", Node(16, 0), Node(1, 4))


def test_memory_limits_the_groups_and_one_always_runs() -> None:
    group = GROUP_BYTES + 5 * 10**8
    assert fitted("{}", Node(64), memory=int(3.5 * group / 0.9)) == 3
    assert fitted("{}", Node(64), memory=group // 2) == 1


def test_never_more_groups_than_trials() -> None:
    plan = empty_plan(search=AUTO, budget="{trials: 3}")
    assert fit_concurrency(plan, Capacity((Node(64),), MANY), 10**8) == 3


def test_more_trials_at_once_than_fit_are_refused_with_what_does() -> None:
    with pytest.raises(PlacementError, match=r"search.concurrent_trials is 5, .* Use `auto` or at most 4\."):
        fitted("{cpus_per_worker: 2}", Node(8), search="{pruner: none, concurrent_trials: 5}")
