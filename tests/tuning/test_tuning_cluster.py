"""How many trials run at once on which cluster."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from clusters import BIN, ray_cluster, ray_folder
from finesearch.errors import PlacementError
from finesearch.tuning.cluster import GROUP_BYTES, Capacity, Node, fit_concurrency
from plans import empty_plan

MANY = 10**12
AUTO = "{pruner: none, concurrent_trials: auto}"


def fitted(training: str, *nodes: Node, memory: int = MANY, search: str = AUTO, model_bytes: int = 10**8) -> int:
    plan = empty_plan(training=training, search=search, budget="{trials: 100}")
    return fit_concurrency(plan, Capacity(nodes, memory), model_bytes)


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


@pytest.mark.ray
def test_devices_of_ended_groups_come_back_and_those_of_others_stay(tmp_path: Path) -> None:
    hold = """
import json, sys, time, ray
from ray.util import placement_group, placement_group_table
from finesearch.tuning import cluster
cluster.connect()
group = placement_group([{"CPU": 1}], lifetime=sys.argv[1] or None, name=sys.argv[2])
ray.get(group.ready())
if sys.argv[2] == "ours":
    cluster.release_groups()
    end = time.monotonic() + 30
    while ray.available_resources().get("CPU", 0) < 3:
        assert time.monotonic() < end, ray.available_resources()
        time.sleep(0.1)
    print(json.dumps({held["name"]: held["state"] for held in placement_group_table().values()}))
"""
    with ray_folder() as folder, ray_cluster(folder, cpus=4) as variables:
        for lifetime, name in (("detached", "theirs"), ("", "ours")):
            command = [BIN / "python", "-c", hold, lifetime, name]
            done = subprocess.run(command, env=variables, capture_output=True, text=True, timeout=200)
            assert done.returncode == 0, done.stderr[-3000:]
    assert json.loads(done.stdout.splitlines()[-1]) == {"theirs": "CREATED", "ours": "REMOVED"}
