"""A search on a cluster that makes its nodes when they are asked for: Ray's own autoscalers over its local provider."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from test_lost_nodes import FOLLOWING, Search, states

from clusters import free_port, ray_folder
from nodes import Nodes, nodes, wait_for

pytestmark = [pytest.mark.slow, pytest.mark.cluster]
HEAD = "fffffffffffffffffffffffffffffffffffffffffffffffffff00000"
"""The id that Ray's local provider wants of its head."""
VERSIONS = {
    "v1": {"RAY_enable_autoscaler_v2": "0"},
    "v2": {"RAY_enable_autoscaler_v2": "1", "RAY_CLOUD_INSTANCE_ID": HEAD},
}


@contextmanager
def autoscaling(folder: Path, version: str, most: int) -> Iterator[Nodes]:
    """A head without CPUs, and ``most`` workers of one CPU that may be made."""
    port = free_port()
    worker = {"resources": {"CPU": 1}, "node_config": {}, "min_workers": 0, "max_workers": most}
    head = {"resources": {"CPU": 0}, "node_config": {}, "max_workers": 0}
    # By its full name: under its own, Ray looks for a file that its package lacks.
    name = "ray.autoscaler._private.fake_multi_node.node_provider.FakeMultiNodeProvider"
    provider: dict[str, Any] = {
        "type": "external",
        "module": name,
        "gcs_address": f"127.0.0.2:{port}",
        "head_node_id": HEAD,
        "launch_multiple": True,
        "disable_node_updaters": True,
        "disable_launch_config_check": True,
    }
    config = {
        "cluster_name": "fake",
        "max_workers": most,
        "provider": provider,
        "available_node_types": {"ray.head.default": head, "worker": worker},
        "head_node_type": "ray.head.default",
        "idle_timeout_minutes": 0.1,
        "upscaling_speed": 1.0,
        "auth": {},
        "docker": {},
        "file_mounts": {},
        "cluster_synced_files": [],
        "initialization_commands": [],
        "setup_commands": [],
        "head_setup_commands": [],
        "worker_setup_commands": [],
        "head_start_ray_commands": [],
        "worker_start_ray_commands": [],
    }
    folder.mkdir(exist_ok=True)
    (folder / "autoscaling.json").write_text(json.dumps(config))
    more = {
        "AUTOSCALER_UPDATE_INTERVAL_S": "1",
        "RAY_FAKE_CLUSTER": "1",
        "RAY_OVERRIDE_NODE_ID_FOR_TESTING": HEAD,
        **VERSIONS[version],
    }
    options = [f"--autoscaling-config={folder / 'autoscaling.json'}"]
    with nodes(folder, port=port, options=options, **more) as made:
        # The nodes' own settings are not those of drivers.
        for name in more:
            del made.variables[name]
        yield made


@pytest.mark.parametrize("version", VERSIONS)
def test_a_cluster_without_workers_makes_them_and_lets_them_go(tmp_path: Path, version: str) -> None:
    with ray_folder() as folder, autoscaling(folder, version, most=2) as cluster:
        search = Search(tmp_path, cluster, *FOLLOWING, "--trials", "6", "--steps", "10", "--step-s", "1")
        result = search.result()
        assert states(result) == {"complete": 6}
        assert "at once: 2" in search.said
        assert "at once: 3" not in search.said
        assert cluster.held()["groups"] == [], "nothing is asked for any more, so that idle workers are let go"
        if version == "v2":  # version 1 tells nodes by their addresses, which the local provider's share
            wait_for(lambda: len(cluster.ask("[n for n in ray.nodes() if n['Alive']]")) == 1, "they are gone", 60)


def test_what_the_autoscaler_cannot_give_is_refused(tmp_path: Path) -> None:
    with ray_folder() as folder, autoscaling(folder, "v2", most=2) as cluster:
        began = time.monotonic()
        search = Search(tmp_path, cluster, *FOLLOWING, "--workers", "4")
        search.process.wait(200)
        assert re.search(r"one trial asks for 4 worker\(s\) with 1 CPU\(s\)", search.said)
        print(f"refused after {time.monotonic() - began:.1f} s")
