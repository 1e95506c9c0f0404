"""Kept outputs that are damaged, too large or shared: nothing is lost but time, and no budget is exceeded."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from finesearch.data.build_once import file_lock
from finesearch.training.prefix_cache import disk_entries
from finesearch.training.trial_types import TrialResult
from pairs import seen_by_two
from paths import PYTHONPATH
from prefix_cases import FROZEN, READ, alike, kept, own_cache  # noqa: F401 - a fixture
from training_cases import make_runner, run, trial, write_home


def test_damaged_files_are_computed_again(home: Path, tmp_path: Path) -> None:
    whole, _ = run(make_runner(home), trial(tmp_path / "one", **FROZEN["train_top"]))
    (train, validation) = kept()[2]
    with (train / disk_entries.HIDDEN).open("r+b") as file:
        file.truncate(100)
    (validation / disk_entries.MANIFEST).unlink()
    again, _ = run(make_runner(home), trial(tmp_path / "two", **FROZEN["train_top"]))
    assert alike(whole, again)
    assert len(kept()[2]) == 2


def test_a_flipped_byte_is_seen_and_computed_again(home: Path, tmp_path: Path) -> None:
    whole, _ = run(make_runner(home), trial(tmp_path / "one", **FROZEN["train_top"]))
    path = kept()[2][0] / disk_entries.HIDDEN
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 64
    path.write_bytes(content)
    again, _ = run(make_runner(home), trial(tmp_path / "two", **FROZEN["train_top"]))
    assert alike(whole, again)
    assert path.read_bytes() != bytes(content)


def test_a_cache_that_is_deleted_while_it_is_opened_costs_time_alone(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, _ = run(make_runner(home), trial(tmp_path / "one", **FROZEN["train_top"]))
    lock_entry = disk_entries.lock_entry

    def locked_and_deleted(path: Path) -> int | None:
        held = lock_entry(path)
        shutil.rmtree(disk_entries.home())
        return held

    with monkeypatch.context() as patched:
        patched.setattr(disk_entries, "lock_entry", locked_and_deleted)
        again, _ = run(make_runner(home), trial(tmp_path / "two", **FROZEN["train_top"]))
    assert alike(whole, again)
    assert any("cannot be read" in note for note in (*again.notes, *again.warnings))


BUILDER = """
import sys, time
from pathlib import Path
from training_cases import make_runner, run, trial
home, out, pause = Path(sys.argv[1]), Path(sys.argv[2]), float(sys.argv[3])
spec = trial(out, adaptation="train_top", adaptation_parameters={"layers": 2})
result = make_runner(home).run(spec, lambda evaluation: True, lambda: time.sleep(pause))
print(result.model_dump_json())
"""


@pytest.fixture
def builders() -> Iterator[Any]:
    started: list[subprocess.Popen[bytes]] = []

    def start(home: Path, out: Path, pause: float, before: str = "") -> subprocess.Popen[bytes]:
        environment = {**os.environ, "PYTHONPATH": PYTHONPATH, "OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-c", before + BUILDER, str(home), str(out), str(pause)]
        started.append(subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.wait()


def test_a_killed_builder_poisons_nothing(home: Path, tmp_path: Path, builders: Any) -> None:
    builder = builders(home, tmp_path / "killed", 5.0)
    deadline = time.monotonic() + 60
    while not any(path.stat().st_size for path in disk_entries.home().glob(".building-*/*")):
        assert time.monotonic() < deadline, builder.communicate()[1].decode()
        time.sleep(0.02)
    os.kill(builder.pid, signal.SIGKILL)
    builder.wait()
    assert not kept()
    assert list(disk_entries.home().glob(".building-*"))
    result, _ = run(make_runner(home), trial(tmp_path / "after", **FROZEN["train_top"]))
    assert READ in result.notes
    assert not list(disk_entries.home().glob(".building-*"))
    without, _ = run(make_runner(home, prefix_cache="off"), trial(tmp_path / "off", **FROZEN["train_top"]))
    assert alike(result, without)


def test_of_two_processes_one_computes_and_the_other_waits(home: Path, tmp_path: Path, builders: Any) -> None:
    both = [builders(home, tmp_path / name, 0.2) for name in ("one", "other")]
    results = []
    for process in both:
        out, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors.decode()
        results.append(TrialResult.model_validate_json(out.splitlines()[-1]))
    assert alike(*results)
    assert [(path / disk_entries.USES).stat().st_size for path in kept()[2]] == [2, 2]


SHARER = """
from finesearch.data import EVALUATION_TOKENS_PER_PASS
from finesearch.training.prefix_cache import cache_request, cache_stores
EVALUATION_TOKENS_PER_PASS["cpu"], cache_request.PART_TOKENS = 64, 64
class Counting(cache_stores.CachedRowWriter):
    def write(self, numbers, hidden):
        super().write(numbers, hidden)
        print("computed", len(numbers))
cache_stores.CachedRowWriter = Counting
"""


def test_processes_of_a_node_share_out_the_parts_of_a_split(home: Path, tmp_path: Path, builders: Any) -> None:
    both = [builders(home, tmp_path / name, 0.3, SHARER) for name in ("one", "other")]
    results, computed = [], []
    for process in both:
        out, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors.decode()
        *lines, result = out.splitlines()
        results.append(TrialResult.model_validate_json(result))
        computed.append(sum(int(line.split()[1]) for line in lines if line.startswith(b"computed")))
    assert alike(*results)
    assert all(READ in result.notes for result in results)
    assert min(computed) > 0, "one has waited for the other"
    assert sum(computed) == sum(entry.rows for entry in disk_entries.list_entries())
    assert len(kept()[2]) > 4
    without, _ = run(make_runner(home, prefix_cache="off"), trial(tmp_path / "off", **FROZEN["train_top"]))
    assert alike(results[0], without)


def test_what_does_not_fit_is_computed_as_it_comes(home: Path, tmp_path: Path) -> None:
    without, _ = run(make_runner(home, prefix_cache="off"), trial(tmp_path / "off", **FROZEN["train_top"]))
    whole, _ = run(make_runner(home), trial(tmp_path / "whole", **FROZEN["train_top"]))
    sizes = sum(entry.bytes for entry in disk_entries.list_entries())
    shutil.rmtree(disk_entries.home())
    half, _ = run(
        make_runner(home, prefix_cache_disk_gib=0.5 * sizes / (1 << 30)),
        trial(tmp_path / "half", **FROZEN["train_top"]),
    )
    assert any(not entry.is_complete for entry in disk_entries.list_entries())
    assert alike(whole, without)
    assert alike(half, without)


def test_where_nothing_fits_the_trial_goes_on_without(home: Path, tmp_path: Path) -> None:
    result, _ = run(make_runner(home, prefix_cache_disk_gib=1e-7), trial(tmp_path / "none", **FROZEN["train_top"]))
    without, _ = run(make_runner(home, prefix_cache="off"), trial(tmp_path / "off", **FROZEN["train_top"]))
    assert alike(result, without)
    assert not kept()
    assert any("training.prefix_cache_disk_gib leaves 0.00 GB of 0.00 GB" in note for note in result.notes)


def test_a_home_that_cannot_be_written_costs_time_alone(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blocked = tmp_path / "blocked"
    blocked.write_text("a file where a folder is to be")
    monkeypatch.setenv("XDG_CACHE_HOME", str(blocked))
    result, _ = run(make_runner(home), trial(tmp_path / "trial", **FROZEN["train_top"]))
    assert any(note.startswith(f"prefix cache: {blocked}") and "cannot be written" in note for note in result.notes)


def test_what_is_being_built_counts_and_what_a_dead_process_left_is_deleted() -> None:
    disk_entries.home().mkdir(parents=True)
    with file_lock(disk_entries.lock_path("building")):
        path = disk_entries.reserve("building", 1, 80_000)
        assert disk_entries.evict_entries(needed=100_000, budget=150_000) == 70_000
        assert path.exists()
    assert disk_entries.evict_entries(needed=100_000, budget=150_000) == 100_000
    assert not path.exists()


def make_entry(name: str, cut: int, kilobytes: int, uses: int, days: float = 0.0) -> Path:
    temporary, final = disk_entries.home() / f".building-{name}", disk_entries.home() / f"{name}-c{cut}"
    temporary.mkdir(parents=True)
    (temporary / disk_entries.HIDDEN).write_bytes(b"x" * (kilobytes * 1000))
    disk_entries.commit_entry(temporary, final, cut, 10, 10)
    (final / disk_entries.USES).write_bytes(b"." * uses)
    then = time.time() - days * 86_400
    os.utime(final / disk_entries.USES, (then, then))
    return final


def test_what_saves_least_for_its_bytes_goes_first() -> None:
    deep = make_entry("deep", 6, 100, uses=2)
    shallow = make_entry("shallow", 1, 100, uses=2)
    large = make_entry("large", 6, 900, uses=2)
    old = make_entry("old", 6, 100, uses=8, days=9.0)
    assert disk_entries.evict_entries(needed=300_000, budget=1_420_000) == 300_000
    assert [path.exists() for path in (deep, shallow, large, old)] == [True, True, True, False]
    assert disk_entries.evict_entries(needed=300_000, budget=1_350_000) == 300_000
    assert [path.exists() for path in (deep, shallow, large)] == [True, True, False]
    assert disk_entries.evict_entries(needed=300_000, budget=450_000) == 300_000
    assert [path.exists() for path in (deep, shallow)] == [True, False]
    assert disk_entries.evict_entries(needed=300_000, budget=200_000) == 200_000
    assert not deep.exists()


def test_what_is_read_is_not_deleted() -> None:
    path = make_entry("read", 1, 100, uses=1)
    held = disk_entries.lock_entry(path)
    assert held is not None
    assert disk_entries.evict_entries(needed=100_000, budget=150_000) == 50_000
    os.close(held)
    assert disk_entries.evict_entries(needed=100_000, budget=150_000) == 100_000
    assert not path.exists()
    assert disk_entries.lock_entry(path) is None


PEAK = """
import resource, sys
from pathlib import Path
from training_cases import run, task_plan, trial
from finesearch.plan import TrainingPlan
from finesearch.training.loop.trial_runner import TrialRunner
home, out, cache = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
training = TrainingPlan(epochs=2, batch_size=16, precision="fp32", prefix_cache=cache, prefix_cache_memory_gib=0.004)
work = TrialRunner(task_plan(), training, str(home), str(home / "tokens"), "accuracy", "max")
run(work, trial(out, adaptation="head_only"))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
"""


@pytest.mark.slow
def test_a_worker_takes_no_more_memory_than_its_budget_beside_what_it_takes_without(tmp_path: Path) -> None:
    home = write_home(tmp_path / "home", train_rows=1500)
    from tiny_models import write_tiny_model

    shutil.rmtree(home / "model")
    write_tiny_model(home / "model", layers=1, hidden=512)
    peaks = {}
    for cache in ("off", "auto"):
        environment = {**os.environ, "PYTHONPATH": PYTHONPATH, "OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-c", PEAK, str(home), str(tmp_path / cache), cache]
        done = subprocess.run(command, env=environment, capture_output=True, check=True, timeout=300)
        peaks[cache] = int(done.stdout.splitlines()[-1])
    size = sum(entry.bytes for entry in disk_entries.list_entries())
    assert size > 35e6, size
    # What goes through the reader is 40 times the budget; allocators differ by a few megabytes from run to run.
    assert peaks["auto"] - peaks["off"] < 0.004 * (1 << 30) + 20e6, (peaks, size)


def test_two_nodes_with_disks_of_their_own_each_compute_their_own(home: Path, tmp_path: Path) -> None:
    seen = seen_by_two("prefix_pair_worker.py", home, tmp_path)
    for stage in range(4):
        for case in ("whole", "half"):
            results = [TrialResult.model_validate(of_rank[f"{stage}-{case}"]) for of_rank in seen]
            without = TrialResult.model_validate(seen[0][f"{stage}-off"])
            assert alike(results[0], without)
            assert alike(*results)
    assert [of_rank["entries"] for of_rank in seen] == [{"2": 2}, {"2": 2}]
    homes = [of_rank["home"] for of_rank in seen]
    assert homes[0] != homes[1]
    # Weights that are cut up among the ranks cannot be run by one of them for the rows that are missing.
    assert READ not in seen[0]["3-half"]["notes"]
    assert READ in seen[0]["2-half"]["notes"]
