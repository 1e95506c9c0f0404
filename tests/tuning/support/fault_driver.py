"""A driver to be killed: searches with a FaultRunner. Prints the outcome as JSON when it ends.

python fault_driver.py FOLDER FAULT [--trials N] [--concurrent C] [--workers W] [--hang S] [--pruner P]
[--die-at-write N] [--fresh] [--follow]

--follow: concurrent trials follow the cluster, as in a search; --concurrent is the most.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import json
import os
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

TESTS = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(TESTS / "tuning" / "support"), str(TESTS / "support"), str(TESTS.parent / "platform")]

from fault_runner import STEPS, FaultRunner  # noqa: E402
from finesearch.errors import FinesearchError  # noqa: E402
from finesearch.run.open_search import open_search_controller  # noqa: E402
from finesearch.storage.run_lock import RunLock  # noqa: E402
from finesearch.tuning.cluster.trial_concurrency import ConcurrencyUpdater, initial_concurrency  # noqa: E402
from finesearch.tuning.connection import connect  # noqa: E402
from finesearch.tuning.controller.search_controller import SEARCH, Concurrency, SearchController  # noqa: E402
from finesearch.tuning.ray_tune.run_tuner import run_tuner  # noqa: E402
from finesearch.tuning.study.journal import Journal  # noqa: E402
from finesearch.tuning.workers.worker_group import GroupSettings  # noqa: E402
from plans import empty_plan  # noqa: E402
from writes import before_each_change  # noqa: E402

MODEL_BYTES = 1_000_000


def die_at(journal: Journal, number: int) -> None:
    """Have SIGKILL come in place of the ``number``-th statement, or commit, that this process changes the study by."""
    written = 0

    def count(_text: str) -> None:
        nonlocal written
        written += 1
        if written == number:
            os.kill(os.getpid(), signal.SIGKILL)

    before_each_change(journal._disk, count)


@contextlib.contextmanager
def watched(controller: SearchController) -> Iterator[None]:
    """Print each change of how many trials run at once, and of why some wait."""
    over = threading.Event()

    def watch() -> None:
        before = None
        while not over.wait(0.1):
            concurrency = controller.concurrency
            now = f"at once: {concurrency.concurrent_trials}; waiting: {concurrency.waiting}"
            if now != before:
                print(now, flush=True)
                before = now

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    yield
    over.set()
    thread.join()


def main() -> int:
    options = argparse.ArgumentParser()
    options.add_argument("folder", type=Path)
    options.add_argument("fault")
    options.add_argument("--trials", type=int, default=6)
    options.add_argument("--failed", type=int, default=5)
    options.add_argument("--concurrent", default="1")
    options.add_argument("--cpus", type=float, default=0.5)
    options.add_argument("--follow", action="store_true")
    options.add_argument("--workers", type=int, default=1)
    options.add_argument("--hang", type=float, default=60.0)
    options.add_argument("--step-s", type=float, default=0.05)
    options.add_argument("--steps", type=int, default=STEPS)
    options.add_argument("--die-at-write", type=int, default=0)
    options.add_argument("--pruner", default="none")
    options.add_argument("--fresh", action="store_true")
    given = options.parse_args()
    plan = empty_plan(
        budget=f"{{trials: {given.trials}, failed_trials: {given.failed}}}",
        search=f"{{pruner: {given.pruner}, concurrent_trials: {given.concurrent}, startup_trials: 3}}",
        training=f"{{workers_per_trial: {given.workers}, cpus_per_worker: {given.cpus}}}",
    )
    given.folder.mkdir(parents=True, exist_ok=True)
    log = given.folder / "log"
    with RunLock(given.folder):
        controller = open_search_controller(plan, given.folder, 1 if given.follow else int(given.concurrent))
        if given.die_at_write:
            die_at(controller.journals[SEARCH], given.die_at_write)
        connect.connect()
        settings = GroupSettings(
            make_runner=functools.partial(FaultRunner, str(log), given.fault, given.step_s, given.steps),
            workers=given.workers,
            cpus_per_worker=given.cpus,
            gpus_per_worker=0,
            hang_timeout_s=given.hang,
            fresh=given.fresh,
            run_name="fault",
            scratch=str(given.folder / "scratch"),
        )
        error = None
        try:
            if given.follow:
                _, concurrent = initial_concurrency(plan, MODEL_BYTES, lambda text: print(text, flush=True))
                controller.set_concurrency(Concurrency(concurrent))
                with ConcurrencyUpdater(plan, MODEL_BYTES, controller), watched(controller):
                    run_tuner(controller, settings)
            else:
                run_tuner(controller, settings)
        except FinesearchError as met:
            error = [type(met).__name__, met.message]
        connect.disconnect()
    trials = [
        {
            "number": trial.number,
            "state": trial.state,
            "values": trial.values,
            "params": dict(trial.parameters),
            "steps": {step: evaluation.value for step, evaluation in trial.evaluations.items()},
            "reason": trial.outcome.reason if trial.outcome else None,
            "group": trial.detail.group,
        }
        for trial in controller.journals[SEARCH].trials()
    ]
    print(json.dumps({"trials": trials, "stop_reason": controller.stop_reason, "error": error}))
    return 0


if __name__ == "__main__":
    # Workers must find the bench by name: pickled by reference, it keeps its module.
    os.environ["PYTHONPATH"] = os.pathsep.join(sys.path[:3])
    sys.exit(main())
