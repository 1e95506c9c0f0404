"""A real search on a Ray of several nodes: what a notice or a loss costs, and what is left behind when it is over."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from clusters import processes_of, ray_folder
from nodes import Nodes, nodes, wait_for
from paths import ROOT
from plans import tiny_plan, write_sentiment
from tiny_models import write_tiny_model

pytestmark = [pytest.mark.slow, pytest.mark.cluster]
# One trial that trains for about a minute.
LONG = ("training.epochs=100", "training.prefix_cache=off", "budget.trials=1", "report.baselines=[majority]")
SHORT = ("budget.trials=2", "report.baselines=[majority]")
OF_RAY = "ray::(IDLE|DashboardAgent|RuntimeEnvAgent)"
"""What Ray runs on a node whatever runs there."""
WIDE_FIGURES = ("training.workers_per_trial=2",)


@pytest.fixture
def cluster() -> Iterator[Nodes]:
    """A head without CPUs, so that trials run on the nodes that a test adds."""
    with ray_folder() as folder, nodes(folder) as made:
        yield made


@pytest.fixture
def bench(tmp_path: Path) -> Path:
    """A folder with a tiny model, rows and a plan."""
    write_tiny_model(tmp_path / "model")
    write_sentiment(tmp_path)
    (tmp_path / "tiny.yaml").write_text(tiny_plan())
    return tmp_path


def front_door(folder: Path, cluster: Nodes, *changes: str) -> subprocess.Popen[str]:
    command = [sys.executable, str(ROOT / "platform" / "search.py"), "tiny.yaml"]
    command += [word for change in changes for word in ("--set", change)]
    log = (folder / "said").open("a")
    return subprocess.Popen(command, cwd=folder, env=cluster.variables, text=True, stdout=log, stderr=subprocess.STDOUT)


def said(folder: Path) -> str:
    return (folder / "said").read_text()


def report(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "reports" / "tiny" / "report.json").read_text(encoding="utf-8"))


def trial_folder(folder: Path) -> Path:
    return folder / "runs" / "tiny" / "checkpoints" / "trial-0000"


def attempts(folder: Path) -> int:
    place = trial_folder(folder) / "attempts"
    return len(list(place.iterdir())) if place.exists() else 0


def written(folder: Path, pattern: str) -> list[str]:
    return sorted(path.parent.name for path in trial_folder(folder).glob(f"{pattern}/manifest.json"))


def test_a_trial_across_two_nodes_moves_on_notice_and_loses_no_step(bench: Path, cluster: Nodes) -> None:
    cluster.add(cpus=1)
    second = cluster.add(cpus=1)
    with front_door(bench, cluster, *LONG, *WIDE_FIGURES) as driver:
        wait_for(lambda: driver.poll() is not None or written(bench, "step-*"), "it trains", 200)
        assert driver.poll() is None, said(bench)
        cluster.add(cpus=1)
        noticed = time.monotonic()
        cluster.drain(second, seconds=40)
        wait_for(lambda: driver.poll() is not None or written(bench, "paused-*"), "its state is written", 40)
        print(f"{written(bench, 'paused-*')} {time.monotonic() - noticed:.1f} s after the notice")
        wait_for(lambda: driver.poll() is not None or attempts(bench) == 2, "it goes on elsewhere", 60)
        print(f"went on {time.monotonic() - noticed:.1f} s after the notice")
        assert time.monotonic() - noticed < 40, "before the node was taken away"
        second.lose()
        assert driver.wait(300) == 0, said(bench)
    told = report(bench)
    assert told["cost"]["trials"] == {"complete": 1, "pruned": 0, "failed": 0, "running": 0}
    (row,) = told["ranked"]
    assert row["validation"] == pytest.approx(row["revalidated"], abs=1e-9)
    assert attempts(bench) == 2


def test_a_node_lost_without_grace_costs_what_came_after_the_last_checkpoint(bench: Path, cluster: Nodes) -> None:
    cluster.add(cpus=1)
    second = cluster.add(cpus=1)
    with front_door(bench, cluster, *LONG, *WIDE_FIGURES) as driver:
        wait_for(lambda: driver.poll() is not None or len(written(bench, "step-*")) > 1, "checkpoints", 200)
        assert driver.poll() is None, said(bench)
        last = max(written(bench, "step-*"))
        second.lose()
        # As if the power had failed between the writing of a checkpoint and its registration.
        (trial_folder(bench) / ".tmp-step-9999-a1" / "resume").mkdir(parents=True)
        cluster.add(cpus=1)
        assert driver.wait(300) == 0, said(bench)
    told = report(bench)
    assert told["cost"]["trials"]["complete"] == 1
    assert attempts(bench) == 2
    assert not (trial_folder(bench) / ".tmp-step-9999-a1").exists()
    # The record of what was kept holds every evaluation once; those before the last checkpoint are the first attempt's.
    record = json.loads((Path(told["ranked"][0]["checkpoint"]) / "finesearch.json").read_text())
    steps = [evaluation["step"] for evaluation in record["history"]]
    assert steps == list(range(1, len(steps) + 1))
    assert int(last.split("-")[1]) > 1


def leftovers(cluster: Nodes) -> list[str]:
    """What runs for a driver: processes of the cluster that Ray has named after their work, but for a node's own."""
    names = []
    for process in processes_of(cluster.folder):
        try:
            name = " ".join(process.cmdline())
        except psutil.Error:
            continue
        if name.startswith("ray::") and not re.match(OF_RAY, name) and process.status() != psutil.STATUS_ZOMBIE:
            names.append(name.strip())
    return names


@pytest.mark.parametrize("end", ["finished", "stopped", "killed"])
def test_nothing_is_left_behind(bench: Path, cluster: Nodes, end: str) -> None:
    cluster.add(cpus=2)
    changes = (*SHORT,) if end == "finished" else (*LONG, "budget.trials=4", "search.concurrent_trials=2")
    with front_door(bench, cluster, *changes) as driver:
        if end != "finished":
            wait_for(lambda: driver.poll() is not None or written(bench, "step-*"), "it trains", 200)
            assert driver.poll() is None, said(bench)
            assert any("RayTrainWorker" in name for name in leftovers(cluster))
            driver.send_signal(signal.SIGTERM if end == "stopped" else signal.SIGKILL)
        code = driver.wait(300)
    ended = time.monotonic()
    assert code == {"finished": 0, "stopped": 143, "killed": -signal.SIGKILL}[end], said(bench)
    wait_for(lambda: not leftovers(cluster), "its processes are gone", 30, lambda: leftovers(cluster))
    print(f"gone {time.monotonic() - ended:.1f} s after the driver")
    wait_for(lambda: cluster.held() == {"groups": [], "actors": []}, "its devices are free", 30, cluster.held)
