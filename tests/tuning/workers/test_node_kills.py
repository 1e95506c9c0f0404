"""Random kills of workers, again and again: every search ends right."""

from __future__ import annotations

import contextlib
import random
import threading
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from test_lost_nodes import Search, repeated, states

from clusters import processes_of, ray_folder
from nodes import Nodes, nodes

pytestmark = [pytest.mark.slow, pytest.mark.cluster]
TRIALS, STEPS = 4, 8


@pytest.fixture(scope="module")
def cluster() -> Iterator[Nodes]:
    with ray_folder() as folder, nodes(folder) as made:
        made.add(cpus=2)
        yield made


@contextlib.contextmanager
def random_kills(folder: Path, seed: int) -> Iterator[list[int]]:
    """Kill a worker of some worker group every 5 to 15 s; the processes that were killed."""
    generator, over, killed = random.Random(seed), threading.Event(), []

    def kill() -> None:
        while not over.wait(generator.uniform(5, 15)):
            workers = [process for process in processes_of(folder) if is_worker(process)]
            if workers:
                victim = generator.choice(sorted(workers, key=lambda process: process.pid))
                killed.append(victim.pid)
                victim.kill()

    thread = threading.Thread(target=kill)
    thread.start()
    try:
        yield killed
    finally:
        over.set()
        thread.join()


def is_worker(process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.Error):
        return "RayTrainWorker" in " ".join(process.cmdline())
    return False


@pytest.mark.parametrize("seed", range(10))
def test_a_search_ends_right_however_its_workers_are_killed(tmp_path: Path, cluster: Nodes, seed: int) -> None:
    arguments = ("--trials", str(TRIALS), "--steps", str(STEPS), "--step-s", "1", "--concurrent", "2", "--cpus", "1")
    with random_kills(cluster.folder, seed) as killed:
        search = Search(tmp_path, cluster, *arguments)
        result = search.result()
    print(f"{len(killed)} kills, {repeated(search)} steps trained again")
    assert states(result) == {"complete": TRIALS}
    assert {(trial, step) for trial, step, _ in search.trained} == {
        (trial, step) for trial in range(TRIALS) for step in range(1, STEPS + 1)
    }
    assert repeated(search) <= len(killed), "each kill costs at most the step that was not saved yet"
