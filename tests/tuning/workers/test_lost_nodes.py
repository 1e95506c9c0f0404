"""A search on a cluster whose nodes come, go, and are announced to go."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from clusters import BIN, ray_folder
from nodes import Machine, Nodes, nodes, wait_for
from paths import TUNING_SUPPORT

pytestmark = [pytest.mark.slow, pytest.mark.cluster]
DRIVER = TUNING_SUPPORT / "fault_driver.py"
FOLLOWING = ("--follow", "--cpus", "1", "--concurrent", "auto")


@pytest.fixture
def cluster() -> Iterator[Nodes]:
    """A head without CPUs, so that trials run on the nodes that a test adds."""
    with ray_folder() as folder, nodes(folder) as made:
        yield made


class Search:
    """A driver with a bench that trains by sleeping; what it says, and what was trained where."""

    def __init__(self, folder: Path, cluster: Nodes, *arguments: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._log, self._said = folder / "log", folder / "said"
        command = [sys.executable, str(DRIVER), str(folder), "none", *arguments]
        self._output = self._said.open("w+", encoding="utf-8")
        self.process = subprocess.Popen(
            command, env=cluster.variables, text=True, stdout=self._output, stderr=subprocess.STDOUT
        )

    @property
    def said(self) -> str:
        return self._said.read_text(encoding="utf-8")

    @property
    def trained(self) -> list[tuple[int, int, str]]:
        """Trial, step and node of each step that was trained, in order."""
        if not self._log.exists():
            return []
        rows = [line.split() for line in self._log.read_text().splitlines()]
        return [(int(row[0]), int(row[1]), row[3]) for row in rows]

    def steps_on(self, machine: Machine) -> int:
        return sum(address == machine.address for _, _, address in self.trained)

    def until(self, condition: Any, what: str) -> None:
        def holds() -> bool:
            assert self.process.poll() is None, self.said[-3000:]
            return bool(condition())

        wait_for(holds, what, 150)

    def result(self) -> dict[str, Any]:
        self.process.wait(300)
        assert self.process.returncode == 0, self.said[-3000:]
        return json.loads(self.said.splitlines()[-1])


def states(result: dict[str, Any]) -> Counter[str]:
    return Counter(trial["state"] for trial in result["trials"])


def repeated(search: Search) -> int:
    """Steps that were trained more than once."""
    return sum(times - 1 for times in Counter((trial, step) for trial, step, _ in search.trained).values())


def test_a_node_that_joins_is_used_and_one_lost_without_grace_costs_a_step(tmp_path: Path, cluster: Nodes) -> None:
    first = cluster.add(cpus=1)
    search = Search(tmp_path, cluster, *FOLLOWING, "--trials", "6", "--steps", "6", "--step-s", "1")
    search.until(lambda: search.steps_on(first) >= 2, "the first node trains")
    second = cluster.add(cpus=1)
    search.until(lambda: search.steps_on(second) >= 2, "the node that joined trains")
    first.lose()
    result = search.result()
    assert states(result) == {"complete": 6}, "every trial is accounted for"
    assert {(trial, step) for trial, step, _ in search.trained} == {(t, s) for t in range(6) for s in range(1, 7)}
    assert repeated(search) <= 1
    assert "at once: 2" in search.said
    assert search.said.rindex("at once: 1;") > search.said.index("at once: 2")


def test_a_trial_of_two_workers_survives_the_loss_of_one_of_their_nodes(tmp_path: Path, cluster: Nodes) -> None:
    machines = [cluster.add(cpus=1), cluster.add(cpus=1)]
    search = Search(tmp_path, cluster, *FOLLOWING, "--workers", "2", "--trials", "2", "--steps", "6", "--step-s", "1")
    search.until(lambda: all(search.steps_on(machine) >= 2 for machine in machines), "both nodes train one trial")
    machines[1].lose()
    search.until(lambda: "1 waiting for 2 worker(s) with 1 CPU(s) and 0 GPU(s) each" in search.said, "it is said")
    third = cluster.add(cpus=1)
    assert states(search.result()) == {"complete": 2}
    assert search.steps_on(third) > 0
    # Each rank writes a line; one step that was not saved yet may have been trained again.
    assert max(Counter((trial, step) for trial, step, _ in search.trained).values()) <= 4


def test_a_notice_moves_a_trial_and_costs_it_nothing(tmp_path: Path, cluster: Nodes) -> None:
    machines = [cluster.add(cpus=1), cluster.add(cpus=1)]
    search = Search(tmp_path, cluster, "--follow", "--cpus", "1", "--trials", "1", "--steps", "80", "--step-s", "0.5")
    search.until(lambda: len(search.trained) >= 2, "it trains")
    # More often than a trial may lose its worker: notices do not count.
    for _ in range(4):
        here = next(machine for machine in machines if machine.address == search.trained[-1][2])
        drained_at = time.monotonic()
        cluster.drain(here, seconds=60)
        search.until(lambda here=here: search.trained[-1][2] != here.address, "it goes on elsewhere")
        print(f"went on {time.monotonic() - drained_at:.1f} s after the notice")
        assert time.monotonic() - drained_at < 60, "before the node was taken away"
        here.lose()
        machines.remove(here)
        machines.append(cluster.add(cpus=1))
    assert states(search.result()) == {"complete": 1}
    assert repeated(search) == 0


def test_a_trial_that_waits_says_who_holds_what_it_needs(tmp_path: Path, cluster: Nodes) -> None:
    cluster.add(cpus=2)
    holder = subprocess.Popen(
        [
            BIN / "python",
            "-c",
            "import ray, sys; from ray.util import placement_group\n"
            "ray.init(logging_level='ERROR')\n"
            "ray.get(placement_group([{'CPU': 1}], name='theirs').ready())\n"
            "print('held', flush=True); sys.stdin.read()",
        ],
        env=cluster.variables,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        search = Search(tmp_path, cluster, *FOLLOWING, "--workers", "2", "--trials", "1")
        wanted = "1 waiting for 2 worker(s) with 1 CPU(s) and 0 GPU(s) each (1 of 2 CPUs free; others hold some: "
        search.until(lambda: wanted in search.said, "it says why it waits")
        assert "placement group 'theirs' of job " in search.said
        assert not search.trained
        holder.communicate("")
    assert states(search.result()) == {"complete": 1}


def test_nothing_fits_and_nothing_will_is_refused(tmp_path: Path, cluster: Nodes) -> None:
    cluster.add(cpus=1)
    began = time.monotonic()
    search = Search(tmp_path, cluster, *FOLLOWING, "--workers", "4")
    search.process.wait(120)
    assert (
        "one trial asks for 4 worker(s) with 1 CPU(s) and 0 GPU(s) each; the cluster has 2 nodes, 1 CPUs" in search.said
    )
    print(f"refused after {time.monotonic() - began:.1f} s")
    assert time.monotonic() - began < 60


def test_a_group_without_a_trial_gives_its_devices_to_one_that_waits(tmp_path: Path, cluster: Nodes) -> None:
    """The last two trials run on two nodes; the node of one is lost, and no other comes."""
    machines = [cluster.add(cpus=1), cluster.add(cpus=1)]
    search = Search(tmp_path, cluster, *FOLLOWING, "--trials", "2", "--steps", "8", "--step-s", "1")
    search.until(lambda: all(search.steps_on(machine) >= 2 for machine in machines), "both nodes train")
    machines[1].lose()
    assert states(search.result()) == {"complete": 2}
    assert repeated(search) <= 1
