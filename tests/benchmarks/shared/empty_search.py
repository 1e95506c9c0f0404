"""A search whose trials do nothing, driven without Ray, and what the driver spends on it. Run as a program by scale.py.

    python tests/benchmarks/shared/empty_search.py TRIALS [--sampler tpe] [--pruner successive_halving]

The controller and its journal on disk are the real ones; only Ray Tune between them and the workers is left out. Prints
JSON.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import resource
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

ROOT = Path(__file__).resolve().parents[3]
sys.path[:0] = [str(ROOT / "platform"), str(ROOT / "tests" / "support"), str(ROOT / "tests" / "tuning" / "support")]

from finesearch.plan import Recipe  # noqa: E402
from finesearch.report import write_report  # noqa: E402
from finesearch.run.build_record import FinalScores, build_record  # noqa: E402
from finesearch.run.open_search import open_search_controller  # noqa: E402
from finesearch.tuning.controller.search_controller import SEARCH, SearchController  # noqa: E402
from plans import empty_plan  # noqa: E402
from trial_reports import completed, evaluation  # noqa: E402

EVALUATIONS = 3
PARTS = ("next_job", "evaluation", "trial_ended")


def accuracy(recipe: Recipe, step: int, generator: random.Random) -> float:
    """A made-up metric in [0, 1] that a good learning rate raises; noisy, as real ones are."""
    distance = abs(math.log10(recipe.learning_rate) + 4)
    return min(1.0, max(0.0, 0.9 - 0.15 * distance - 0.2 / step + generator.gauss(0, 0.02)))


class Stopwatch:
    """Seconds by part."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)

    def time(self, part: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*arguments: Any, **named: Any) -> Any:
            began = time.perf_counter()
            try:
                return call(*arguments, **named)
            finally:
                self.seconds[part] += time.perf_counter() - began

        return timed


def run_trial(controller: SearchController, watch: Stopwatch, number: int) -> None:
    """One trial from being asked for to its end, as Tune's searcher and scheduler would have it."""
    generator = random.Random(number)
    name = str(number)
    job = watch.time("next_job", controller.next_job)(name)
    assert job is not None
    for step in range(1, EVALUATIONS + 1):
        event = evaluation(step, accuracy(job.recipe, step, generator), float(step), epoch=float(step))
        if not watch.time("evaluation", controller.evaluation)(name, event):
            break
    else:
        event = completed(event)
    watch.time("trial_ended", controller.trial_ended)(name, event, False)


def resident_bytes() -> int:
    """Memory that this process holds now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()


def measure(trials: int, sampler: str, pruner: str, folder: Path) -> dict[str, Any]:
    """Seconds of the whole search by part, of a trial in its last tenth, of its report; memory in bytes.

    ``ask`` is a part of ``next_job``.
    """
    search = f"{{sampler: {sampler}, pruner: {pruner}, concurrent_trials: 1}}"
    plan = empty_plan("scale", budget=f"{{trials: {trials}}}", search=search)
    controller = open_search_controller(plan, folder, 1)
    journal, watch = controller.journals[SEARCH], Stopwatch()
    journal.ask = watch.time("ask", journal.ask)  # type: ignore[method-assign]
    before = resident_bytes()
    last = max(1, trials // 10)
    until_last: dict[str, float] = {}
    for number in range(trials):
        if number == trials - last:
            until_last = dict(watch.seconds)
        run_trial(controller, watch, number)
    assert controller.is_finished
    by_part = {part: watch.seconds[part] for part in (*PARTS, "ask")}
    at_the_end = {part: (seconds - until_last.get(part, 0.0)) / last for part, seconds in by_part.items()}
    grown = resident_bytes() - before
    opening = time.perf_counter()
    again = open_search_controller(plan, folder, 1)
    opened_s = time.perf_counter() - opening
    assert again.journals[SEARCH].counts() == journal.counts()
    return {
        "trials": trials,
        "sampler": sampler,
        "counts": journal.counts(),
        "seconds": sum(by_part[part] for part in PARTS),
        "seconds_by_part": by_part,
        "seconds_per_trial_at_the_end": {**at_the_end, "whole": sum(at_the_end[part] for part in PARTS)},
        "grown_bytes": grown,
        "opening_s": opened_s,
        "report_s": report_seconds(controller, folder / "report"),
        "journal_bytes": (folder / "study.db").stat().st_size,
    }


def report_seconds(controller: SearchController, folder: Path) -> float:
    """Seconds from the journal to the four files, the second time: the first loads what later ones find loaded."""
    # A report says of data and model what the plan's files say; there are none here.
    nothing = SimpleNamespace(
        warnings=(), notes=(), splits=SimpleNamespace(fingerprints={}), model=SimpleNamespace(sha256="")
    )
    for _ in range(2):
        began = time.perf_counter()
        write_report(build_record(controller, nothing, FinalScores(), True, "scale"), folder)  # type: ignore[arg-type]
    return time.perf_counter() - began


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("trials", type=int)
    options.add_argument("--sampler", default="tpe")
    options.add_argument("--pruner", default="successive_halving")
    given = options.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        print(json.dumps(measure(given.trials, given.sampler, given.pruner, Path(folder))))
    return 0


if __name__ == "__main__":
    sys.exit(main())
