"""Devices of a worker group come back when its trial actor is killed, all when a search is over, and no others."""

from __future__ import annotations

import json
import subprocess

import pytest

from clusters import BIN, ray_cluster, ray_folder

pytestmark = pytest.mark.ray

THEIRS = """
import ray
from ray.util import placement_group
from finesearch.tuning.connection import connect
connect.connect()
ray.get(placement_group([{"CPU": 1}], lifetime="detached", name="theirs").ready())
"""
OURS = """
import json, time
import ray
from ray.util import placement_group, placement_group_table
from finesearch.tuning.connection import connect
from finesearch.tuning.cluster.placement_cleanup import PlacementCleanup

class Trial:
    def hold(self, name):
        ray.get(placement_group([{"CPU": 1}], name=name).ready())

def held():
    table = placement_group_table().values()
    return sorted(group["name"] for group in table if group["state"] != "REMOVED")

connect.connect()
told = {}
with PlacementCleanup():
    trials = {name: ray.remote(num_cpus=0)(Trial).remote() for name in ("killed", "alive")}
    ray.get([trial.hold.remote(name) for name, trial in trials.items()])
    ray.get(placement_group([{"CPU": 1}], name="driver").ready())
    time.sleep(3)
    told["before"] = held()
    ray.kill(trials["killed"])
    end = time.monotonic() + 30
    while "killed" in held() and time.monotonic() < end:
        time.sleep(0.1)
    time.sleep(3)
    told["one killed"] = held()
end = time.monotonic() + 30
while ray.available_resources().get("CPU", 0) < 3 and time.monotonic() < end:
    time.sleep(0.1)
told["over"], told["CPUs"] = held(), ray.available_resources()["CPU"]
print(json.dumps(told))
"""


@pytest.mark.slow
def test_what_a_killed_trial_actor_held_comes_back_and_all_when_a_search_is_over() -> None:
    with ray_folder() as folder, ray_cluster(folder, cpus=4) as variables:
        for driver in (THEIRS, OURS):
            done = subprocess.run(
                [BIN / "python", "-c", driver], env=variables, capture_output=True, text=True, timeout=200
            )
            assert done.returncode == 0, done.stderr[-3000:]
    told = json.loads(done.stdout.splitlines()[-1])
    assert told["before"] == ["alive", "driver", "killed", "theirs"]
    assert told["one killed"] == ["alive", "driver", "theirs"]
    assert (told["over"], told["CPUs"]) == (["theirs"], 3.0)
