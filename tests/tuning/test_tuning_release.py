"""Devices of a worker group come back when its Ray Train controller is killed, and nothing stays to watch it."""

from __future__ import annotations

import json
import subprocess

from clusters import BIN, ray_cluster, ray_folder

KILLED = """
import json, time
import ray
from ray._private.state import state
from ray.util import placement_group, placement_group_table
from types import SimpleNamespace as Having
from finesearch.tuning import cluster
from finesearch.tuning.release import ReleaseGroup

class Mailbox:
    async def is_closed(self): return False

class Controller:
    # What Ray Train's controller does of it, on an actor of its own.
    async def start(self, mailbox):
        self.callback = ReleaseGroup(mailbox)
        self.callback.after_controller_start(None)
        self.callback.before_worker_group_start(None)
        group = placement_group([{"CPU": 1}])
        await group.ready()
        handle = Having(placement_group=group)
        state = Having(placement_group_handle=handle)
        self.group = Having(get_worker_group_state=lambda: state)
        self.callback.after_worker_group_start(self.group)
    async def again(self):
        self.callback.after_worker_group_start(self.group)
    async def end(self):
        await self.callback.before_controller_shutdown()

def alive():
    found = state.actor_table(None, None, "ALIVE").values()
    return sorted(actor["ActorClassName"] for actor in found)

def held():
    return [group["state"] for group in placement_group_table().values() if group["state"] != "REMOVED"]

def wait(condition):
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end, (alive(), held())
        time.sleep(0.1)

cluster.connect()
mailbox = ray.remote(num_cpus=0)(Mailbox).remote()
killed, ended = (ray.remote(num_cpus=0)(Controller).remote() for _ in range(2))
ray.get([killed.start.remote(mailbox), ended.start.remote(mailbox)])
told = {"before": [alive(), held()]}
ray.kill(killed)
wait(lambda: len(held()) == 1 and alive().count("GroupReleaser") == 1)
told["one killed"] = [alive(), held()]
ray.get(ended.end.remote())
wait(lambda: "GroupReleaser" not in alive())
told["one ended"] = [alive(), held()]
ray.get(ended.again.remote())
told["its releaser killed"] = alive()
print(json.dumps(told))
"""


def test_a_killed_controller_keeps_no_devices() -> None:
    with ray_folder() as folder, ray_cluster(folder, cpus=2) as variables:
        done = subprocess.run(
            [BIN / "python", "-c", KILLED], env=variables, capture_output=True, text=True, timeout=200
        )
    assert done.returncode == 0, done.stderr[-3000:]
    told = json.loads(done.stdout.splitlines()[-1])
    actors, releasers = ["Controller", "Controller"], ["GroupReleaser", "GroupReleaser"]
    assert told["before"] == [[*actors, *releasers, "Mailbox"], ["CREATED", "CREATED"]]
    assert told["one killed"] == [["Controller", "GroupReleaser", "Mailbox"], ["CREATED"]]
    assert told["one ended"] == [["Controller", "Mailbox"], ["CREATED"]], "the controller gives back what it holds"
    assert told["its releaser killed"] == ["Controller", "GroupReleaser", "Mailbox"], "there is another one"
