"""Every benchmark runs, at a size at which its figures mean nothing."""

from __future__ import annotations

import doctest
import importlib
import json
import shutil
import sqlite3
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from clusters import BIN, environment, ray_folder
from paths import ROOT

sys.path.append(str(ROOT / "tests" / "benchmarks"))

SMALL = {
    "against_floors.py": ["--rows", "40", "--peers", "floors", "--seconds", "1", "--without-ours"],
    "cost_aware.py": ["--seeds", "1", "--trials", "12", "--world", "only full is good"],
    "gpu.py": ["--device", "cpu", "--layers", "2", "--hidden", "32", "--rows", "64"],
    "memory_of_models.py": ["--small", "--recipes", "lora", "--steps", "2", "--threads", "1"],
    "report.py": ["--trials", "20", "--repeat", "1"],
    "scale.py": ["--sizes", "4", "12", "--repeat", "1"],
    "step.py": ["--rounds", "1", "--steps", "1"],
    "watching.py": ["--trials", "10", "--repeat", "1"],
}
TINY_WORK = ["--rows", "80", "--epochs", "1", "--rounds", "1"]
SMALL_WITH_RAY = {
    "memory.py": ["--trials", "4", "--peer-trials", "2"],
    "overhead.py": ["--trials", "12", "--peer-trials", "2", "--rounds", "1"],
    "record_curves.py": ["--trials", "3", "--repeated", "1", "--seeds", "2"],
    "same_work.py": ["--case", "deep", *TINY_WORK],
    "time_to_target.py": ["--trials", "2", *TINY_WORK],
}


def run(name: str, arguments: list[str], out: Path, **variables: str) -> None:
    command = [BIN / "python", ROOT / "tests" / "benchmarks" / name, *arguments, "--json", out]
    done = subprocess.run(command, env=environment(**variables), capture_output=True, text=True, timeout=500)
    # 1 says that a goal was missed, which at this size it may be; Python says it of an exception as well.
    assert done.returncode in (0, 1), done.stderr[-3000:]
    assert "Traceback" not in done.stderr, done.stderr[-3000:]
    assert json.loads(out.read_text(encoding="utf-8")), done.stdout


def test_no_benchmark_is_forgotten() -> None:
    there = {path.name for path in (ROOT / "tests" / "benchmarks").glob("*.py")}
    assert there == SMALL.keys() | SMALL_WITH_RAY.keys() | {"search_quality.py"}


def test_make_bench_goes_on_behind_a_missed_goal_and_names_it(tmp_path: Path) -> None:
    writes = "import sys; open(sys.argv[2], 'w').write('{}')"
    (tmp_path / "misses.py").write_text(f"{writes}; sys.exit(1)\n")
    (tmp_path / "reaches.py").write_text(f"{writes}\n")
    shutil.copy(ROOT / "Makefile", tmp_path)
    for name in ("pyproject.toml", "locks/tools.txt", "locks/packages.txt", "venv/.installed"):
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


def test_policies_are_replayed_over_recorded_curves(tmp_path: Path) -> None:
    from shared.curve_tables import Curve, RecordedTrial, read_recorded, write_recorded

    from finesearch.plan.space.parse_space import parse_space
    from finesearch.plan.space.random_sampling import RandomTrial

    space = parse_space(
        {
            "learning_rate": {"min": 1e-5, "max": 1e-1, "log": True},
            "label_smoothing": [0.0, 0.1],
            "adaptation": {"one_of": {"full": {}, "freeze_bottom": {"layers": {"min": 1, "max": 5}}}},
        }
    )
    drawn = [space.suggest(RandomTrial(seed)) for seed in range(20)]
    curves = [Curve(tuple(one["learning_rate"] * step for step in range(1, 7)), (2.0,) * 6) for one in drawn]
    curves[0] = Curve((0.3,), (1.0,))  # solved, not trained
    trials = [RecordedTrial(*each, seed=0) for each in zip(drawn, curves, strict=True)]
    write_recorded(tmp_path / "curves.parquet", space, trials)
    assert read_recorded(tmp_path / "curves.parquet")[0] == space
    policies = ["freeze-thaw", "default", "optuna-tpe-halving", "optuna-tpe-hyperband", "optuna-tpe-median", "random"]
    arguments = ["--curves", str(tmp_path / "curves.parquet"), "--seeds", "1", "--trials", "3", "--policies", *policies]
    for unit in ([], ["--seconds"]):
        run("search_quality.py", [*arguments, *unit], tmp_path / "figures.json")
        told = json.loads((tmp_path / "figures.json").read_text(encoding="utf-8"))
        assert told["policies"].keys() == set(policies)
        assert all(row["mean"] == sorted(row["mean"], reverse=True) for row in told["policies"].values())
        assert told["verdict"]["best_peer"] in policies


def test_a_recording_trains_what_the_plan_searches_and_reads_every_curve(tmp_path: Path) -> None:
    import yaml
    from record_curves import complete_trials, nested, recording_plan

    from finesearch.plan import parse_plan
    from finesearch.plan.space.first_trials import first_configuration
    from finesearch.plan.space.random_sampling import RandomTrial

    quickstart = ROOT / "search_spaces" / "quickstart.yaml"
    plan = parse_plan(yaml.safe_dump(recording_plan(quickstart, "curves", 7, 0)))
    drawn = [plan.space.suggest(RandomTrial(seed)) for seed in range(12)]
    assert [first_configuration(plan.space, nested(one)) for one in drawn] == drawn
    again = parse_plan(yaml.safe_dump(recording_plan(quickstart, "curves", 12, 1, [nested(one) for one in drawn])))
    assert (again.training.epochs, again.training.seed, again.search.pruner) == (6, 1, "none")
    with tarfile.open(ROOT / "tests" / "commands" / "run_of_an_older_version.tar.xz") as archive:
        archive.extract("runs/tiny/study.sql", tmp_path)
    with sqlite3.connect(tmp_path / "study.db") as study:
        study.executescript((tmp_path / "runs" / "tiny" / "study.sql").read_text(encoding="utf-8"))
    trials = complete_trials(tmp_path / "study.db", "tiny", seed=0)
    assert trials
    for trial in trials:
        assert trial.parameters
        assert len(trial.curve.values) == len(trial.curve.seconds) > 0
        assert all(0.0 <= value <= 1.0 for value in trial.curve.values)


def test_a_replay_charges_two_workers_and_a_stopped_trial_goes_on_where_it_was() -> None:
    from shared.curve_tables import Curve, RecordedTable
    from shared.replay import Replay, Resume, Start

    from finesearch.plan.space.parse_space import parse_space

    space = parse_space({"learning_rate": {"min": 0.1, "max": 0.9}})
    curves = [Curve((0.1 * row, 0.2 * row, 0.3 * row), (1.0, 1.0, 4.0)) for row in (1, 2, 3)]
    table = RecordedTable("made", space, [{"learning_rate": rate} for rate in (0.1, 0.5, 0.9)], curves)

    class Scripted:
        def __init__(self) -> None:
            self.told: list[tuple[int, int, float, bool]] = []

        def next(self) -> Start | Resume | None:
            events = len(self.told)
            return Start({"learning_rate": 0.9}) if events < 3 else Resume(0) if events == 3 else None

        def evaluated(self, trial: int, step: int, value: float, is_last: bool) -> bool:
            self.told.append((trial, step, round(value, 6), is_last))
            return trial == 1

    replay = Replay(table, total=4.0, in_seconds=True)
    policy = Scripted()
    regrets = replay.run(policy)
    # The nearest configuration that was not yet tried: 0.9, then 0.5, then 0.1.
    assert policy.told[:4] == [(0, 1, 0.3, False), (1, 1, 0.2, False), (2, 1, 0.1, False), (1, 2, 0.4, False)]
    assert policy.told[4:] == [(0, 2, 0.6, False)]
    assert regrets == pytest.approx([2.0, 5 / 3, 1.0])  # best 0.9, median 0.6; found 0.3, 0.4, 0.6


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
