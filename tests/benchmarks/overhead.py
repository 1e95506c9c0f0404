"""What it costs to run a trial that does nothing: our warm groups against Ray's documented pattern, in one run.

    python tests/benchmarks/overhead.py [--trials 200] [--peer-trials 4] [--json FILE]

Both run one trial at a time and report three results each. Steady-state seconds a trial are taken between the end of
the
10th (of the peer: the first) trial and the end of the last; start-up is everything before the first trial's end.
The peer is what Ray's documentation shows: a Tune function trial that fits a ``TorchTrainer`` and passes its reports
on with
``TuneReportCallback``.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "platform"), str(ROOT / "tests")]
os.environ["PYTHONPATH"] = os.pathsep.join(sys.path[:2])

from finesearch.run import open_conductor  # noqa: E402
from finesearch.tuning import cluster  # noqa: E402
from finesearch.tuning.conductor import SEARCH  # noqa: E402
from finesearch.tuning.execute import execute  # noqa: E402
from finesearch.tuning.group import GroupSettings  # noqa: E402
from plans import empty_plan  # noqa: E402

REPORTS = 3
WARM_UP = 10


def make_empty_bench() -> Any:
    class EmptyBench:
        def run(
            self, job: dict[str, Any], report: Callable[[dict[str, Any]], bool], beat: Callable[[], None]
        ) -> dict[str, Any]:
            for step in range(1, REPORTS + 1):
                value = job["recipe"]["learning_rate"] * step
                last = {
                    "step": step, "epoch": float(step), "metrics": {"accuracy": value}, "train_loss": 0.0,
                    "seconds": 0.0, "tokens": 0,
                }  # fmt: skip
                if not report(last):
                    break
            return {"best": last, "seconds": 0.0, "trainable_parameters": 0}

    return EmptyBench()


def ours(trials: int) -> dict[str, float]:
    """Start-up and steady state of our warm groups; every trial runs to its end."""
    plan = empty_plan(
        "overhead", budget=f"{{trials: {trials}}}", search="{sampler: tpe, pruner: none, concurrent_trials: 1}"
    )
    with tempfile.TemporaryDirectory() as folder:
        conductor = open_conductor(plan, Path(folder), 1)
        ends: dict[int, float] = {}
        journal = conductor.journals[SEARCH]
        conductor._on_change = lambda: ends.setdefault(journal.counts()["complete"], time.perf_counter())
        began = time.perf_counter()
        settings = GroupSettings(make_empty_bench, 1, 1.0, 0.0, 600.0, False, "overhead", str(Path(folder) / "scratch"))
        execute(conductor, settings)
        assert journal.counts()["complete"] == trials
    first = min(WARM_UP, trials - 1)
    return {
        "trials": trials,
        "startup_s": ends[1] - began,
        "steady_s_per_trial": (ends[trials] - ends[first]) / (trials - first),
    }


def documented_pattern(trials: int) -> dict[str, float]:
    """The same of a ``TorchTrainer`` inside each Tune trial."""
    import ray.train
    import ray.tune
    from ray.train.torch import TorchConfig, TorchTrainer
    from ray.tune.integration.ray_train import TuneReportCallback

    with tempfile.TemporaryDirectory() as folder:

        def loop(config: dict[str, float]) -> None:
            for step in range(1, REPORTS + 1):
                ray.train.report({"accuracy": config["learning_rate"] * step})

        def trial(config: dict[str, float]) -> None:
            TorchTrainer(
                loop,
                train_loop_config=config,
                torch_config=TorchConfig(backend="gloo"),
                scaling_config=ray.train.ScalingConfig(num_workers=1, resources_per_worker={"CPU": 1}),
                run_config=ray.train.RunConfig(
                    name=f"train-trial_id={ray.tune.get_context().get_trial_id()}",
                    storage_path=folder,
                    callbacks=[TuneReportCallback()],
                ),
            ).fit()

        ends: list[float] = []

        class Stamp(ray.tune.Callback):
            def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
                ends.append(time.perf_counter())

        began = time.perf_counter()
        results = ray.tune.Tuner(
            trial,
            param_space={"learning_rate": ray.tune.loguniform(1e-6, 1e-2)},
            tune_config=ray.tune.TuneConfig(num_samples=trials, max_concurrent_trials=1),
            run_config=ray.tune.RunConfig(name="peer", storage_path=folder, callbacks=[Stamp()], verbose=0),
        ).fit()
        assert not results.errors
    return {
        "trials": trials,
        "startup_s": ends[0] - began,
        "steady_s_per_trial": (ends[-1] - ends[0]) / (trials - 1),
    }


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--trials", type=int, default=200)
    options.add_argument("--peer-trials", type=int, default=4)
    options.add_argument("--json", type=Path)
    given = options.parse_args()
    cluster.connect()
    rows = {
        "finesearch, warm groups": ours(given.trials),
        "TorchTrainer in each Tune trial": documented_pattern(given.peer_trials),
    }
    cluster.leave()
    mine, peer = rows.values()
    ratio = peer["steady_s_per_trial"] / mine["steady_s_per_trial"]
    print(f"{'':34}{'trials':>8}{'start-up s':>12}{'s a trial':>12}")
    for name, row in rows.items():
        print(f"{name:34}{row['trials']:>8.0f}{row['startup_s']:>12.1f}{row['steady_s_per_trial']:>12.3f}")
    goal_met = ratio >= 150 and mine["steady_s_per_trial"] <= 0.1
    print(
        f"{ratio:.0f} times less a trial (goal: at least 150 times, and at most 0.1 s): "
        f"{'met' if goal_met else 'MISSED'}"
    )
    if given.json:
        given.json.write_text(json.dumps({"rows": rows, "ratio": ratio, "goal_met": goal_met}, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
