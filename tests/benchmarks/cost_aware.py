"""What choosing by cost is worth, and a spread start: seconds of trials until a value is reached, with and without.

No training: values come from formulas, costs from the cost model for MiniLM on 2,000 rows. Each setting is searched
with the same seeds; a search that never gets there counts with all that it spent. The first row of each world starts
from trials drawn at random, as Optuna does by itself; the others from trials spread evenly, as finesearch does.

    python tests/benchmarks/cost_aware.py [--seeds 20] [--trials 40] [--world NAME] [--starts-alone] [--kept]
        [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "platform"), str(ROOT / "tests" / "support")]

import optuna  # noqa: E402

from cost_examples import minilm_workload, priced_plan  # noqa: E402
from finesearch.plan import Plan, Recipe  # noqa: E402
from finesearch.training.cost_model.cost_model import CostModel  # noqa: E402
from finesearch.tuning.controller.trial_costs import TrialCosts  # noqa: E402
from finesearch.tuning.samplers.cost_aware import cost_aware_configuration  # noqa: E402
from finesearch.tuning.samplers.latin_hypercube import latin_hypercube_configuration  # noqa: E402
from finesearch.tuning.samplers.sampler_factory import make_sampler  # noqa: E402
from finesearch.tuning.study.journal import Direction, Journal, Outcome  # noqa: E402

BEST_RATE = {"full": 1e-4, "freeze_bottom": 2e-4, "head_only": 1e-2, "lora": 1e-3}
CLOSE = 0.005
GAIN_ALONE = 1e-9  # the forest chooses among the same proposals, and cost does not count


def peak(recipe: Recipe, depth: float) -> float:
    """How near a recipe's rate, decay and dropout are to what its adaptation wants, times what its depth can reach."""
    off = math.log10(recipe.learning_rate / BEST_RATE[recipe.adaptation])
    away = 0.6 * off**2 + 2.0 * (recipe.weight_decay - 0.1) ** 2 + 2.0 * ((recipe.dropout or 0.1) - 0.1) ** 2
    return 0.5 + depth * math.exp(-away)


def trained_share(recipe: Recipe) -> float:
    """Blocks that train, of 6."""
    frozen = {"full": 0, "lora": 0, "head_only": 6}.get(recipe.adaptation)
    return 1.0 - (recipe.adaptation_parameters["layers"] if frozen is None else frozen) / 6


WORLDS: dict[str, Callable[[Recipe], float]] = {
    "cheap ones are as good": lambda recipe: peak(recipe, 0.40),
    "each layer helps, less and less": lambda recipe: peak(recipe, 0.40 - 0.10 * (1.0 - trained_share(recipe)) ** 2),
    "each layer helps a lot": lambda recipe: peak(recipe, 0.20 + 0.20 * trained_share(recipe)),
    "only full is good": lambda recipe: peak(recipe, 0.40 if recipe.adaptation == "full" else 0.30),
}


def search(
    plan: Plan, value_of: Callable[[Recipe], float], is_kept: bool, is_spread: bool
) -> list[tuple[float, float]]:
    """Seconds spent and best value, after each trial of one search."""
    costs, model = TrialCosts(plan, minilm_workload(), is_kept), CostModel(minilm_workload(), plan.training)
    journal = Journal(optuna.storages.InMemoryStorage(), "search", [Direction("accuracy", True)])
    spent, best, path = 0.0, 0.0, []
    for number in range(plan.budget.trials):
        given = latin_hypercube_configuration(plan, number) if is_spread else None
        if given is None:
            given = cost_aware_configuration(plan, journal, number, lambda one: costs.seconds(one, None))
        trial = journal.ask(plan.space.suggest, make_sampler(plan, number, 1), given)
        recipe = plan.space.recipe(trial.parameters, plan.training)
        value = value_of(recipe)
        journal.finish(trial.number, Outcome("complete", None, (value,)))
        spent, best = spent + model.seconds(recipe, is_kept), max(best, value)
        path.append((spent, best))
    return path


def seconds_to(path: list[tuple[float, float]], target: float) -> float:
    return next((spent for spent, best in path if best >= target), path[-1][0])


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--seeds", type=int, default=20)
    options.add_argument("--trials", type=int, default=40)
    options.add_argument("--world", choices=WORLDS, action="append", help="only this one; repeatable")
    options.add_argument("--starts-alone", action="store_true", help="leave search.cost_weight out")
    options.add_argument("--kept", action="store_true", help="outputs of frozen layers cost nothing (prefix cache)")
    options.add_argument("--json", type=Path, help="write the figures here as well")
    given = options.parse_args()
    rows: list[dict[str, Any]] = []
    print("| world | start | cost_weight | s to target | mean | reached | s in all | best | worst best |")
    for world, value_of in ((name, WORLDS[name]) for name in given.world or WORLDS):
        weighed = [] if given.starts_alone else [("spread", weight) for weight in (GAIN_ALONE, 0.25, 0.5, 1.0)]
        settings = [("random", 0.0), ("spread", 0.0), *weighed]
        began = time.perf_counter()
        paths = {
            (start, weight): [
                search(priced_plan(weight, seed, given.trials), value_of, given.kept, start == "spread")
                for seed in range(given.seeds)
            ]
            for start, weight in settings
        }
        target = statistics.median(path[-1][1] for path in paths[settings[0]]) - CLOSE
        for start, weight in settings:
            found = paths[start, weight]
            seconds = [seconds_to(path, target) for path in found]
            rows.append(
                {
                    "world": world,
                    "start": start,
                    "cost_weight": weight,
                    "seconds_to_target": statistics.median(seconds),
                    "mean_seconds_to_target": statistics.mean(seconds),
                    "reached": sum(path[-1][1] >= target for path in found),
                    "seconds_in_all": statistics.median(path[-1][0] for path in found),
                    "best": statistics.median(path[-1][1] for path in found),
                    "worst_best": min(path[-1][1] for path in found),
                }
            )
            said = " | ".join(f"{value:.4g}" if isinstance(value, float) else str(value) for value in rows[-1].values())
            print(f"| {said} |", flush=True)
        print(f"  ({time.perf_counter() - began:.0f} s)", flush=True)
    if given.json:
        figures = {"seeds": given.seeds, "trials": given.trials, "kept": given.kept, "rows": rows}
        given.json.write_text(json.dumps(figures, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
