"""Every benchmark runs, at a size at which its figures mean nothing."""

from __future__ import annotations

import doctest
import importlib
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from clusters import BIN, environment, ray_folder
from paths import ROOT

sys.path.append(str(ROOT / "tests" / "benchmarks"))

SMALL = {
    "against_floors.py": ["--rows", "40", "--peers", "floors", "--seconds", "1", "--without-ours"],
    "cost_aware.py": ["--seeds", "1", "--trials", "12", "--world", "only full is good"],
    "gpu.py": ["--device", "cpu", "--layers", "2", "--hidden", "32", "--rows", "64"],
    "report.py": ["--trials", "20", "--repeat", "1"],
    "scale.py": ["--sizes", "4", "12", "--repeat", "1"],
    "step.py": ["--rounds", "1", "--steps", "1"],
    "watching.py": ["--trials", "10", "--repeat", "1"],
}
TINY_WORK = ["--rows", "80", "--epochs", "1", "--rounds", "1"]
SMALL_WITH_RAY = {
    "memory.py": ["--trials", "4", "--peer-trials", "2"],
    "overhead.py": ["--trials", "12", "--peer-trials", "2", "--rounds", "1"],
    "same_work.py": ["--case", "deep", *TINY_WORK],
    "time_to_target.py": ["--trials", "2", *TINY_WORK],
}


def run(name: str, arguments: list[str], out: Path, **variables: str) -> None:
    command = [BIN / "python", ROOT / "tests" / "benchmarks" / name, *arguments, "--json", out]
    done = subprocess.run(command, env=environment(**variables), capture_output=True, text=True, timeout=500)
    # 1 says that a goal was missed, which at this size it may be.
    assert done.returncode in (0, 1), done.stderr[-3000:]
    assert json.loads(out.read_text(encoding="utf-8")), done.stdout


def test_no_benchmark_is_forgotten() -> None:
    there = {path.name for path in (ROOT / "tests" / "benchmarks").glob("*.py")}
    assert there == SMALL.keys() | SMALL_WITH_RAY.keys()


def test_make_bench_goes_on_behind_a_missed_goal_and_names_it(tmp_path: Path) -> None:
    writes = "import sys; open(sys.argv[2], 'w').write('{}')"
    (tmp_path / "misses.py").write_text(f"{writes}; sys.exit(1)\n")
    (tmp_path / "reaches.py").write_text(f"{writes}\n")
    shutil.copy(ROOT / "Makefile", tmp_path)
    for name in ("pyproject.toml", "constraints.txt", "venv/.installed"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "venv" / "bin").symlink_to(BIN)
    for benchmarks, missed in (("misses.py reaches.py", " misses"), ("reaches.py", "")):
        shutil.rmtree(tmp_path / "tests", ignore_errors=True)
        command = ["make", "bench", "VENV=venv", f"BENCHMARKS={benchmarks}"]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)
        assert (done.returncode != 0) == bool(missed), done.stderr
        assert (f"or the benchmark failed:{missed}\n" in done.stderr) == bool(missed)
        written = sorted(path.name for path in (tmp_path / "tests" / "benchmarks" / "results").iterdir())
        assert written == [f"{Path(name).stem}.json" for name in benchmarks.split()]


PEERS = ("bags_of_words", "contest", "copied_answers", "plain_loop", "scores")


@pytest.mark.parametrize("name", ["scale", "shared.matrix_work", *(f"peers.{name}" for name in PEERS)])
def test_the_arithmetic_of_a_benchmark_holds(name: str) -> None:
    found = doctest.testmod(importlib.import_module(name))
    assert (found.attempted > 0, found.failed) == (True, 0)


def test_a_target_is_reached_by_the_first_evaluation_that_is_good_enough() -> None:
    from shared.competitors import Evaluation, Run
    from time_to_target import compared

    evaluations = [(0, 0.5, 10.0), (1, 0.8, 30.0), (0, 0.7, 20.0), (1, 0.6, 40.0)]
    run = Run(60.0, tuple(Evaluation(*one) for one in evaluations), test=0.7)
    assert run.curve == [(10.0, 0.5), (20.0, 0.7), (30.0, 0.8)]
    assert run.final_accuracies == [0.7, 0.6]
    assert [run.seconds_until(target) for target in (0.6, 0.75, 0.9)] == [20.0, 30.0, None]
    better = Run(100.0, (Evaluation(0, 0.9, 15.0),), test=0.7)
    pair = compared([better], [run])
    assert (pair["ours"], pair["peer"], pair["ratio"]) == (15.0, 60.0, 4.0)
    assert pair["never_reached"] == {"ours": 0, "peer": 1}


def test_only_workers_that_are_at_work_together_count_as_at_once() -> None:
    from shared.ray_tune_search import Witness

    witness = Witness("unused")
    witness.spans = {0: (0.0, 10.0), 1: (10.0, 20.0), 2: (21.0, 30.0)}
    assert witness.most_at_once == 1
    witness.spans[3] = (15.0, 25.0)
    assert witness.most_at_once == 2


def test_every_competitor_runs_once_a_round_and_another_begins_each_time() -> None:
    from shared.competitors import Run, run_in_turns

    order: list[str] = []

    def competitor(name: str):
        def run(number: int) -> Run:
            order.append(name)
            return Run(float(number), (), None)

        return run

    runs = run_in_turns({name: competitor(name) for name in "abc"}, rounds=2, say=lambda _: None)
    assert "".join(order) == "abcbca"
    assert [run.seconds for run in runs["b"]] == [0.0, 1.0]


@pytest.mark.parametrize("name", SMALL)
def test_a_benchmark_without_ray_runs(name: str, tmp_path: Path) -> None:
    run(name, SMALL[name], tmp_path / "figures.json")


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.parametrize("name", SMALL_WITH_RAY)
def test_a_benchmark_on_ray_runs(name: str, tmp_path: Path) -> None:
    with ray_folder() as folder:
        run(name, SMALL_WITH_RAY[name], tmp_path / "figures.json", RAY_TMPDIR=str(folder))
