"""What it costs to be watched: the driver's numbers, a mailbox's, a worker's totals and lines.

    python tests/benchmarks/watching.py [--trials 1000] [--repeat 5] [--json FILE]

Ray's metrics are set for real, in this process and without a cluster that collects them. Exits with 1 where the driver
spends more than 1 % of its time on them, or a trial that does nothing (0.07 s) more than 5 %.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "platform"), str(ROOT / "tests" / "support"), str(ROOT / "tests" / "tuning" / "support")]

from shared import machine  # noqa: E402
from shared.empty_search import Stopwatch, run_trial  # noqa: E402

from finesearch.plan import Recipe  # noqa: E402
from finesearch.run.driver_metrics import EVERY_S, DriverMetrics  # noqa: E402
from finesearch.run.open_search import open_search_controller  # noqa: E402
from finesearch.training.runtime.counters import TOKENS, Counters  # noqa: E402
from finesearch.tuning.messages import Job  # noqa: E402
from finesearch.tuning.observability.log_prefix import set_log_prefix  # noqa: E402
from finesearch.tuning.observability.prometheus import PrometheusMetrics  # noqa: E402
from finesearch.tuning.workers.mailbox_actor import MailboxActor  # noqa: E402
from plans import empty_plan  # noqa: E402
from trial_reports import completed, evaluation  # noqa: E402

DRIVER_SHARE, TRIAL_S, TRIAL_SHARE = 0.01, 0.07, 0.05


def timed(call: Callable[[], object], repeat: int, times: int) -> float:
    """Median seconds of one call, of ``repeat`` rounds of ``times`` calls."""
    rounds = []
    for _ in range(repeat):
        began = time.perf_counter()
        for _ in range(times):
            call()
        rounds.append((time.perf_counter() - began) / times)
    return statistics.median(rounds)


def driver_seconds(trials: int, repeat: int, folder: Path) -> float:
    """One telling of the driver, of a journal with so many trials."""
    controller = open_search_controller(empty_plan("watched", budget=f"{{trials: {trials}}}"), folder)
    for number in range(trials):
        run_trial(controller, Stopwatch(), number)
    watching = DriverMetrics(controller)
    return timed(watching.report, repeat, 5)


async def mailbox_seconds(repeat: int, folder: Path) -> float:
    """What a trial costs a mailbox beyond a mailbox that nobody watches."""

    async def trial(box: Any) -> None:
        job = Job(study="search", number=0, recipe=Recipe(), directory=str(folder))
        generation = await box.post(job)
        await box.take("a", 0, 0)
        await box.finish(generation, completed(evaluation(1, 0.5)))

    async def seconds(box: Any) -> float:
        rounds = []
        for _ in range(20 * repeat):
            began = time.perf_counter()
            await trial(box)
            rounds.append(time.perf_counter() - began)
        return statistics.median(rounds)

    from finesearch.tuning.workers.mailbox import Mailbox

    return max(0.0, await seconds(MailboxActor("watched")) - await seconds(Mailbox()))


def line_seconds(repeat: int) -> float:
    """One line of a worker with its trial before it, formatted and written to nowhere."""
    log = logging.getLogger("watched")
    with Path("/dev/null").open("w") as nowhere:
        handler = logging.StreamHandler(nowhere)
        log.addHandler(handler)
        log.setLevel(logging.INFO)
        set_log_prefix("trial 7")
        seconds = timed(lambda: log.info("evaluation %d: %s", 3, {"accuracy": 0.5}), repeat, 200)
        log.removeHandler(handler)
    set_log_prefix(None)
    return seconds


def measure(trials: int, repeat: int) -> dict[str, Any]:
    counters, instruments = Counters(), PrometheusMetrics("watched")
    with tempfile.TemporaryDirectory() as folder:
        told = driver_seconds(trials, repeat, Path(folder))
        box = asyncio.run(mailbox_seconds(repeat, Path(folder) / "box"))
    line = line_seconds(repeat)
    return {
        "trials": trials,
        "driver_s": told,
        "driver_share": told / EVERY_S,
        "gauge_s": timed(lambda: instruments.set("device_hours", 1.0), repeat, 1000),
        "step_s": timed(lambda: counters.add(TOKENS, 300), repeat, 1000),
        "line_s": line,
        "mailbox_s": box,
        "trial_s": box + 5 * line,  # begin, three evaluations, end
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=1000)
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    figures = measure(given.trials, given.repeat)
    facts = machine.provenance()
    print(machine.shown(facts))
    print(
        f"the driver tells of {figures['trials']:,} trials in {1e3 * figures['driver_s']:.2f} ms, every {EVERY_S:g} s:"
    )
    print(f"  {100 * figures['driver_share']:.3f} % of its time")
    print(
        f"a trial costs a worker group {1e3 * figures['trial_s']:.3f} ms more ({1e6 * figures['line_s']:.0f} µs a line)"
    )
    print(f"an optimizer step costs {1e6 * figures['step_s']:.2f} µs more, a gauge {1e6 * figures['gauge_s']:.1f} µs")
    if given.json:
        given.json.write_text(json.dumps({**facts, **figures}, indent=1) + "\n", encoding="utf-8")
    return int(figures["driver_share"] > DRIVER_SHARE or figures["trial_s"] > TRIAL_SHARE * TRIAL_S)


if __name__ == "__main__":
    sys.exit(main())
