"""A process of its own that scores floors: reads a request from its input, and writes each score when it has it."""

from __future__ import annotations

import os
import pickle
import resource
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import Any

from finesearch.floors import FloorData, make_floor
from finesearch.plan import TaskPlan
from finesearch.run.score_cache import CheckpointScore, ScoreCache
from finesearch.tasks import TaskFacts, make_task
from finesearch.tasks.own_metric import find_beside_plan

PRIORITY = 10
"""Of the process, beside 0 for trials: on a busy core it gets about a tenth."""
LOOK_EVERY_S = 1.0
BEGUN = "begun: "
"""Before the name of a floor, on standard output when its scoring begins."""


@dataclass(frozen=True, eq=False)
class FloorRequest:
    """What is to be scored.

    names: of floors, in the order in which they are scored. scores: the folder of ``ScoreCache``. limit_s: processor
    seconds that all of them together may take; None without a limit. base: the plan's folder.
    """

    task: TaskPlan
    facts: TaskFacts
    names: tuple[str, ...]
    data: FloorData
    test_answers: Sequence[Any]
    _: KW_ONLY
    scores: Path
    limit_s: float | None
    base: Path


def score_floor(name: str, request: FloorRequest) -> CheckpointScore:
    """One floor on validation and test; its ``seconds`` are processor time on one core."""
    began = time.process_time()
    task, data = make_task(request.task).with_facts(request.facts), request.data
    found = make_floor(name, task, request.facts).predict(data)
    decision = task.calibrate(found.validation, data.validation_answers)
    validation, test = (task.decide(given, decision) for given in (found.validation, found.test))
    return CheckpointScore(
        name,
        None,
        task.score(validation, data.validation_answers),
        task.score(test, request.test_answers),
        test,
        list(request.test_answers),
        seconds=time.process_time() - began,
        settings=found.settings,
    )


def score_floors(request: FloorRequest) -> None:
    """Score each floor and keep its score; one that fails is kept with the reason."""
    cache = ScoreCache(request.scores)
    find_beside_plan(request.task, request.base)
    for name in request.names:
        print(f"\n{BEGUN}{name}", flush=True)
        try:
            score = score_floor(name, request)
        except Exception as error:  # a process boundary: the row says it
            # What the machine lacked may be there the next time, so that floor is tried again (see ``missing``).
            seconds = 0.0 if isinstance(error, ImportError | MemoryError | OSError) else None
            score = failed_floor(name, f"it could not be computed: {type(error).__name__}: {error}", seconds)
        cache.put(score, keep_error=True)


def failed_floor(name: str, reason: str, seconds: float | None = None) -> CheckpointScore:
    """The score of a floor that has none. seconds: what it was given, where it was cut off."""
    return CheckpointScore(name, None, {}, {}, [], [], error=reason, seconds=seconds)


def end_with_parent(parent: int) -> None:
    """End this process as soon as the process ``parent`` has ended."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(LOOK_EVERY_S)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def limit_processor_time(seconds: float | None) -> None:
    """The kernel ends this process after that many more seconds of processor time."""
    if seconds is not None:
        until = int(time.process_time() + seconds) + 1
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_CPU, (until, until + 1))


def main() -> None:
    """Read the request from standard input, as pickled, and score it."""
    os.nice(PRIORITY)
    end_with_parent(os.getppid())
    request: FloorRequest = pickle.load(sys.stdin.buffer)
    limit_processor_time(request.limit_s)
    score_floors(request)


if __name__ == "__main__":
    # Its own name, under which the request was pickled.
    from finesearch.run.floor_scores import score_floors as module

    module.main()
