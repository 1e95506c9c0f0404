"""What a trial costs the driver after thousands of others: seconds, memory, the report, and each sampler's suggestion.

    python tests/benchmarks/scale.py [--sizes 100 1000 5000] [--samplers tpe random gp cmaes qmc] [--json FILE]

Trials do nothing, and Ray is left out: the controller is driven as Tune's searcher and scheduler drive it, with its
journal on disk, three evaluations a trial, TPE and successive halving. Each size runs in a process of its own. A
suggestion is one ``journal.ask`` after so many trials, the median of several (``gp`` up to 300 trials only: its time
grows with their cube). Growth is an exponent between two sizes: of the whole work, of which 1 is linear, or of one
trial in the last tenth of a search, of which 0 is. The goal is about the latter, between the two largest sizes.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parents[1] / "platform"), str(HERE.parent / "support")]

from shared import machine  # noqa: E402

from finesearch.tuning.samplers.sampler_factory import make_sampler  # noqa: E402
from finesearch.tuning.study.journal import Direction, Journal, Outcome  # noqa: E402
from plans import empty_plan  # noqa: E402

PARTS = ("whole", "next_job", "ask", "evaluation", "trial_ended")
SAMPLERS = ("tpe", "random", "gp", "cmaes", "qmc")
MOST_GP_TRIALS = 300
CONSTANT = 0.15  # what one trial costs counts as constant up to this exponent, and the whole then as linear
# What explains a growth that is not ours to mend.
KNOWN = {
    "tpe": "TPE weighs every trial, up to 1,000; then it sees the newest 1,000 and the best (windowed_tpe.py)",
    "gp": "a Gaussian process costs the cube of its trials; beyond some hundred, take tpe",
    "cmaes": "Optuna's CMA-ES looks through all trials for those of its generation",
}
FLAT = "{learning_rate: {min: 1.0e-6, max: 1.0e-2, log: true}, weight_decay: {min: 0.0, max: 0.3}}"


def whole_search(trials: int) -> dict[str, Any]:
    """A search of so many trials in a process of its own; see ``shared/empty_search.py``."""
    command = [sys.executable, "-W", "ignore", str(HERE / "shared" / "empty_search.py"), str(trials)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout)


def suggestion_s(sampler: str, trials: int, repeat: int) -> float:
    """Median seconds of a suggestion after so many trials.

    Most of them are drawn at random; the sampler itself suggests the last, so that it is in the middle of its work.
    """
    import optuna

    plan = empty_plan(space=FLAT, search=f"{{sampler: {sampler}, pruner: none}}", budget="{trials: 100000}")
    filler = empty_plan(space=FLAT, search="{sampler: random, pruner: none}")
    journal = Journal(optuna.storages.InMemoryStorage(), "suggestions", [Direction("accuracy", True)])
    generator, seconds = random.Random(0), []
    own = trials - min(trials // 2, 10 + repeat)
    for number in range(trials + repeat):
        drawn_by = make_sampler(plan if number >= own else filler, number, 1)
        began = time.perf_counter()
        trial = journal.ask(plan.space.suggest, drawn_by)
        seconds.append(time.perf_counter() - began)
        value = 0.9 - 0.1 * abs(math.log10(trial.parameters["learning_rate"]) + 4) + generator.gauss(0, 0.02)
        journal.finish(trial.number, Outcome("complete", None, (value,)))
    return statistics.median(seconds[trials:])


def exponent(before: tuple[float, float], after: tuple[float, float]) -> float:
    """Of (size, cost) to (size, cost).

    >>> round(exponent((100, 2.0), (1000, 20.0)), 6)
    1.0
    """
    return math.log(after[1] / before[1]) / math.log(after[0] / before[0])


def growth(sizes: list[int], costs: list[float]) -> list[float]:
    """Exponents between neighbours."""
    points = list(zip(sizes, costs, strict=True))
    return [exponent(first, second) for first, second in zip(points, points[1:], strict=False)]


def searches(sizes: list[int]) -> tuple[dict[str, Any], list[str]]:
    """Whole searches, their growth, and what grows faster than linearly."""
    rows = [whole_search(size) for size in sizes]
    print(f"{'trials':>8}{'driver s':>10}{'ms a trial':>12}{'ms at its end':>15}{'MB grown':>10}{'kB a trial':>12}"
          f"{'resume s':>10}{'report s':>10}")  # fmt: skip
    for row in rows:
        print(
            f"{row['trials']:>8}{row['seconds']:>10.2f}{1e3 * row['seconds'] / row['trials']:>12.2f}"
            f"{1e3 * row['seconds_per_trial_at_the_end']['whole']:>15.2f}{row['grown_bytes'] / 1e6:>10.1f}"
            f"{row['grown_bytes'] / 1e3 / row['trials']:>12.1f}{row['opening_s']:>10.2f}{row['report_s']:>10.2f}"
        )
    of_whole = {
        "driver s": growth(sizes, [row["seconds"] for row in rows]),
        "report s": growth(sizes, [row["report_s"] for row in rows]),
        "resume s": growth(sizes, [row["opening_s"] for row in rows]),
        "MB grown": growth(sizes, [max(row["grown_bytes"], 1) for row in rows]),
    }
    at_the_end = {part: [row["seconds_per_trial_at_the_end"][part] for row in rows] for part in PARTS}
    of_one = {part: growth(sizes, costs) for part, costs in at_the_end.items()}
    print("\ngrowth of the whole (1 is linear)")
    for name, exponents in of_whole.items():
        print(f"  {name:14}" + "".join(f"{value:>8.2f}" for value in exponents))
    print("of one trial at the end (0 is constant), and what it cost in ms")
    for part, exponents in of_one.items():
        costs = "".join(f"{1e3 * cost:>8.2f}" for cost in at_the_end[part])
        print(f"  {part:14}" + "".join(f"{value:>8.2f}" for value in exponents) + f"   {costs}")
    faster = [part for part, exponents in of_one.items() if exponents and exponents[-1] > CONSTANT]
    return {"rows": rows, "growth_of_whole": of_whole, "growth_of_one_trial": of_one}, faster


def suggestions(sizes: list[int], samplers: list[str], repeat: int) -> dict[str, Any]:
    """Milliseconds of a suggestion, by sampler and size."""
    told: dict[str, Any] = {}
    print(f"\n{'ms a suggestion':16}" + "".join(f"{size:>10,}" for size in sizes) + "   growth between sizes")
    for sampler in samplers:
        own = [min(size, MOST_GP_TRIALS) for size in sizes] if sampler == "gp" else sizes
        own = sorted(set(own))
        costs = [suggestion_s(sampler, size, repeat) for size in own]
        told[sampler] = {"sizes": own, "seconds": costs, "growth": growth(own, costs)}
        cells = {size: f"{1e3 * cost:>10.2f}" for size, cost in zip(own, costs, strict=True)}
        said = "".join(cells.get(size, f"{'':>10}") for size in sizes)
        beyond = "".join(f" ({cost.strip()} at {size})" for size, cost in cells.items() if size not in sizes)
        print(f"{sampler:16}{said}   " + " ".join(f"{value:.2f}" for value in told[sampler]["growth"]) + beyond)
    return told


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--sizes", type=int, nargs="+", default=[100, 1000, 5000])
    options.add_argument("--samplers", nargs="+", choices=SAMPLERS, default=list(SAMPLERS))
    options.add_argument("--repeat", type=int, default=10)
    options.add_argument("--json", type=Path)
    given = options.parse_args()
    told: dict[str, Any] = {"benchmark": "scale", **machine.provenance()}
    print(machine.shown(told))
    sizes = sorted(given.sizes)
    told["searches"], faster = searches(sizes)
    told["suggestions"] = suggestions(sizes, given.samplers, given.repeat)
    for sampler, row in told["suggestions"].items():
        if row["growth"] and row["growth"][-1] > CONSTANT and sampler in KNOWN:
            print(f"  {sampler}: {KNOWN[sampler]}")
    print(f"grows faster than linearly: {', '.join(faster) or 'nothing'}: {'MISSED' if faster else 'met'}")
    told["goal_met"] = not faster
    if given.json:
        given.json.write_text(json.dumps(told, indent=2) + "\n", encoding="utf-8")
    return 0 if told["goal_met"] else 1


if __name__ == "__main__":
    sys.exit(main())
