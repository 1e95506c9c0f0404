"""A driver to be killed: searches with a FaultBench. Prints the outcome as JSON when it ends.

python fault_driver.py FOLDER FAULT [--trials N] [--concurrent C] [--workers W] [--hang S] [--pruner P]
[--die-at-write N] [--fresh]
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import signal
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent), str(HERE.parents[1] / "platform")]

from fault_bench import FaultBench  # noqa: E402
from writes import before_each_change  # noqa: E402

from finesearch.errors import FinesearchError  # noqa: E402
from finesearch.run import open_conductor  # noqa: E402
from finesearch.tuning import cluster  # noqa: E402
from finesearch.tuning.conductor import SEARCH  # noqa: E402
from finesearch.tuning.execute import execute  # noqa: E402
from finesearch.tuning.group import GroupSettings  # noqa: E402
from finesearch.tuning.journal import Journal, state_name  # noqa: E402
from finesearch.tuning.lock import RunLock  # noqa: E402
from plans import empty_plan  # noqa: E402


def die_at(journal: Journal, number: int) -> None:
    """Have SIGKILL come in place of the ``number``-th statement, or commit, that this process changes the study by."""
    written = 0

    def count(_text: str) -> None:
        nonlocal written
        written += 1
        if written == number:
            os.kill(os.getpid(), signal.SIGKILL)

    before_each_change(journal._disk, count)


def main() -> int:
    options = argparse.ArgumentParser()
    options.add_argument("folder", type=Path)
    options.add_argument("fault")
    options.add_argument("--trials", type=int, default=6)
    options.add_argument("--failed", type=int, default=5)
    options.add_argument("--concurrent", type=int, default=1)
    options.add_argument("--workers", type=int, default=1)
    options.add_argument("--hang", type=float, default=60.0)
    options.add_argument("--step-s", type=float, default=0.05)
    options.add_argument("--die-at-write", type=int, default=0)
    options.add_argument("--pruner", default="none")
    options.add_argument("--fresh", action="store_true")
    given = options.parse_args()
    plan = empty_plan(
        budget=f"{{trials: {given.trials}, failed_trials: {given.failed}}}",
        search=f"{{pruner: {given.pruner}, concurrent_trials: {given.concurrent}, startup_trials: 3}}",
        training=f"{{workers_per_trial: {given.workers}, cpus_per_worker: 0.5}}",
    )
    given.folder.mkdir(parents=True, exist_ok=True)
    log = given.folder / "log"
    with RunLock(given.folder):
        conductor = open_conductor(plan, given.folder, given.concurrent)
        if given.die_at_write:
            die_at(conductor.journals[SEARCH], given.die_at_write)
        cluster.connect()
        settings = GroupSettings(
            make_bench=functools.partial(FaultBench, str(log), given.fault, given.step_s),
            workers=given.workers,
            cpus_per_worker=0.5,
            gpus_per_worker=0,
            hang_timeout_s=given.hang,
            fresh=given.fresh,
            run_name="fault",
            scratch=str(given.folder / "scratch"),
        )
        error = None
        try:
            execute(conductor, settings)
        except FinesearchError as met:
            error = [type(met).__name__, met.message]
        cluster.leave()
    trials = [
        {
            "number": trial.number,
            "state": state_name(trial),
            "values": trial.values,
            "params": trial.params,
            "steps": trial.intermediate_values,
            "reason": (trial.user_attrs.get("outcome") or {}).get("reason"),
            "group": (trial.user_attrs.get("outcome") or {}).get("group"),
        }
        for trial in conductor.journals[SEARCH].trials()
    ]
    print(json.dumps({"trials": trials, "closing": conductor.closing, "error": error}))
    return 0


if __name__ == "__main__":
    # Workers must find the bench by name: pickled by reference, it keeps its module.
    os.environ["PYTHONPATH"] = os.pathsep.join(sys.path[:3])
    sys.exit(main())
