"""What it costs to run a trial that does nothing: our warm groups, Ray's documented pattern, and plain Ray Tune.

    python tests/benchmarks/overhead.py [--trials 1000] [--peer-trials 5] [--rounds 3] [--json FILE]

All run one trial at a time and report three results each; they take turns on one Ray. Steady-state seconds a trial are
taken between the end of the 10th (of the documented pattern: the first) trial and the end of the last; start-up is
everything before the first trial's end. The documented pattern is what Ray's documentation shows: a Tune function trial
that fits a ``TorchTrainer`` and passes its reports on with ``TuneReportCallback``. Plain Tune is the floor: function
trials with reused actors and ``OptunaSearch``, without workers, journal or anything that survives a crash.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "platform"), str(ROOT / "tests" / "support")]
os.environ["PYTHONPATH"] = os.pathsep.join(sys.path[:2])

from shared import machine  # noqa: E402

from finesearch.run.open_search import open_search_controller  # noqa: E402
from finesearch.training.trial_types import Evaluation, TrialResult, TrialSpec  # noqa: E402
from finesearch.tuning.connection import connect  # noqa: E402
from finesearch.tuning.controller.search_controller import SEARCH  # noqa: E402
from finesearch.tuning.ray_tune.run_tuner import run_tuner  # noqa: E402
from finesearch.tuning.workers.worker_group import GroupSettings  # noqa: E402
from plans import empty_plan  # noqa: E402

REPORTS = 3
OURS, DOCUMENTED, TUNE = "finesearch, warm groups", "TorchTrainer in each Tune trial", "plain Ray Tune, reused actors"
TIMES_LESS = 300  # than the documented pattern
TIMES_TUNE = 2  # at most so many times plain Tune
WARM_UP = 10


def make_empty_runner() -> Any:
    class EmptyRunner:
        def run(
            self,
            spec: TrialSpec,
            report: Callable[[Evaluation], bool],
            beat: Callable[[], None],
            is_preempted: Callable[[], bool] | None,
        ) -> TrialResult:
            for step in range(1, REPORTS + 1):
                last = Evaluation(
                    step=step,
                    epoch=float(step),
                    metrics={"accuracy": spec.recipe.learning_rate * step},
                    train_loss=0.0,
                    seconds=0.0,
                    tokens=0,
                    trainable_parameters=0,
                )
                # As in trials with a model, the last evaluation is told together with the end.
                if step < REPORTS and not report(last):
                    break
            return TrialResult(
                stopped=step < REPORTS,
                best=last,
                history=(last,),
                checkpoint=None,
                trainable_parameters=0,
                total_parameters=0,
                seconds=0.0,
                tokens=0,
                checkpoint_bytes=0,
            )

    return EmptyRunner()


def ours(trials: int) -> dict[str, float]:
    """Start-up and steady state of our warm groups; every trial runs to its end."""
    plan = empty_plan(
        "overhead", budget=f"{{trials: {trials}}}", search="{sampler: tpe, pruner: none, concurrent_trials: 1}"
    )
    with tempfile.TemporaryDirectory() as folder:
        controller = open_search_controller(plan, Path(folder), 1)
        ends: dict[int, float] = {}
        journal = controller.journals[SEARCH]
        ended = controller.trial_ended

        def trial_ended(*arguments: Any) -> None:
            ended(*arguments)
            ends.setdefault(journal.counts()["complete"], time.perf_counter())

        controller.trial_ended = trial_ended  # type: ignore[method-assign]
        began = time.perf_counter()
        settings = GroupSettings(
            make_runner=make_empty_runner, workers=1, cpus_per_worker=1.0, gpus_per_worker=0.0, hang_timeout_s=600.0,
            fresh=False, run_name="overhead", scratch=str(Path(folder) / "scratch"),
        )  # fmt: skip
        run_tuner(controller, settings)
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

        stamps = stamping_callback()
        began = time.perf_counter()
        results = ray.tune.Tuner(
            trial,
            param_space={"learning_rate": ray.tune.loguniform(1e-6, 1e-2)},
            tune_config=ray.tune.TuneConfig(num_samples=trials, max_concurrent_trials=1),
            run_config=ray.tune.RunConfig(name="peer", storage_path=folder, callbacks=[stamps], verbose=0),
        ).fit()
        assert not results.errors
    return spans(stamps.ends, began, after=1)


def plain_tune(trials: int) -> dict[str, float]:
    """The same of function trials that run in reused actors."""
    import ray.tune
    from ray.tune.search.optuna import OptunaSearch

    def trial(config: dict[str, float]) -> None:
        for step in range(1, REPORTS + 1):
            ray.tune.report({"accuracy": config["learning_rate"] * step})

    with tempfile.TemporaryDirectory() as folder:
        stamps = stamping_callback()
        began = time.perf_counter()
        results = ray.tune.Tuner(
            trial,
            param_space={
                "learning_rate": ray.tune.loguniform(1e-6, 1e-2),
                "weight_decay": ray.tune.uniform(0.0, 0.3),
                "adaptation": ray.tune.choice(["full", "freeze_bottom"]),
            },
            tune_config=ray.tune.TuneConfig(
                metric="accuracy",
                mode="max",
                search_alg=OptunaSearch(),
                num_samples=trials,
                max_concurrent_trials=1,
                reuse_actors=True,
            ),
            run_config=ray.tune.RunConfig(name="tune", storage_path=folder, callbacks=[stamps], verbose=0),
        ).fit()
        assert not results.errors
    return spans(stamps.ends, began, after=min(WARM_UP, trials - 1))


def stamping_callback() -> Any:
    """A Tune callback that keeps the time at which each trial ended."""
    import ray.tune

    class Stamp(ray.tune.Callback):
        def __init__(self) -> None:
            self.ends: list[float] = []

        def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
            self.ends.append(time.perf_counter())

    return Stamp()


def spans(ends: list[float], began: float, after: int) -> dict[str, float]:
    """Start-up, and steady state after the first ``after`` trials."""
    return {
        "trials": len(ends),
        "startup_s": ends[0] - began,
        "steady_s_per_trial": (ends[-1] - ends[after - 1]) / (len(ends) - after),
    }


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--trials", type=int, default=1000, help="ours, and plain Tune's")
    options.add_argument("--peer-trials", type=int, default=5, help="the documented pattern's")
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--json", type=Path)
    given = options.parse_args()
    told: dict[str, Any] = {"benchmark": "overhead", **machine.provenance()}
    print(machine.shown(told))
    connect.connect()
    competitors: dict[str, Callable[[], dict[str, float]]] = {
        OURS: lambda: ours(given.trials),
        DOCUMENTED: lambda: documented_pattern(given.peer_trials),
        TUNE: lambda: plain_tune(given.trials),
    }
    runs: dict[str, list[dict[str, float]]] = {name: [] for name in competitors}
    for number in range(given.rounds):
        names = list(competitors)
        for name in names[number % len(names) :] + names[: number % len(names)]:
            runs[name].append(competitors[name]())
    connect.disconnect()
    rows = {
        name: {key: statistics.median(run[key] for run in those) for key in those[0]} for name, those in runs.items()
    }
    print(f"{'medians':34}{'trials':>8}{'start-up s':>12}{'s a trial':>12}")
    for name, row in rows.items():
        print(f"{name:34}{row['trials']:>8.0f}{row['startup_s']:>12.1f}{row['steady_s_per_trial']:>12.4f}")
    mine = rows[OURS]["steady_s_per_trial"]
    less, times = rows[DOCUMENTED]["steady_s_per_trial"] / mine, mine / rows[TUNE]["steady_s_per_trial"]
    met = {"times_less": less >= TIMES_LESS, "times_tune": times <= TIMES_TUNE}
    said = {key: "met" if is_met else "MISSED" for key, is_met in met.items()}
    print(f"{less:.0f} times less than the documented pattern (goal: at least {TIMES_LESS}): {said['times_less']}")
    print(f"{times:.2f} times plain Tune (goal: at most {TIMES_TUNE}): {said['times_tune']}")
    told |= {"rows": rows, "rounds": runs, "times_less": less, "times_tune": times, "goal_met": all(met.values())}
    if given.json:
        given.json.write_text(json.dumps(told, indent=2) + "\n")
    return 0 if told["goal_met"] else 1


if __name__ == "__main__":
    sys.exit(main())
