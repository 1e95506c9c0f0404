"""Large blocks that a step frees are kept for the next one, and given back once a trial is over."""

import subprocess
import sys

from paths import PLATFORM

PROGRAM = """
import resource, torch
from finesearch.training.runtime.malloc import keep_freed_pages, trim_heap

def faults_of_a_block():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.zeros(16_000_000)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

def resident_pages():
    return int(open("/proc/self/statm").read().split()[1])

torch.ones(64_000_000).add_(1.0)
mapped = [faults_of_a_block() for _ in range(4)]
start = resident_pages()
with keep_freed_pages():
    # What else is allocated in between makes a block move on some times, until the free room between is large enough.
    kept = [faults_of_a_block() for _ in range(24)]
    held = resident_pages()
trim_heap()
print(min(mapped), max(kept[-4:]), held - start, resident_pages() - start)
"""


def test_a_block_is_cleared_by_the_system_once_and_not_in_every_step() -> None:
    platform = PLATFORM
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], env={"PYTHONPATH": str(platform)}, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    mapped, kept, held, given_back = map(int, done.stdout.split())
    # 64 MB are 15,625 pages of 4 KiB; larger pages are fewer faults.
    assert mapped > 20
    assert kept < mapped / 10
    assert 10_000 < held < 10 * 15_625
    assert given_back < 1_000


LARGE_PROGRAM = """
from finesearch.training.runtime.malloc import LARGE_WEIGHTS, choose_pages, trial_memory

choose_pages(LARGE_WEIGHTS)
import torch

def resident():
    return int(open("/proc/self/statm").read().split()[1]) * 4096

with trial_memory():
    torch.ones(24 << 18)
    start = resident()
    pinned = []
    for size in range(4, 24):
        block = torch.ones(size << 18)
        pinned.append(torch.ones(1000))
        del block
    print(resident() - start)
"""


def test_a_large_model_holds_no_more_than_it_uses() -> None:
    done = subprocess.run(
        [sys.executable, "-c", LARGE_PROGRAM],
        env={"PYTHONPATH": str(PLATFORM)}, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 8 << 20
