"""How good what a search finds is, for the same budget: policies replayed over recorded learning curves.

    python tests/benchmarks/search_quality.py [--curves FILE.parquet] [--taskset FOLDER] [--lcbench FOLDER]
        [--use choosing|checking|all] [--policies NAME ...] [--seeds 30] [--trials 12] [--seconds] [--json FILE]

Two workers on a simulated clock; six evaluations a trial. The budget is that of ``--trials`` whole trials, in
evaluations or with ``--seconds`` in seconds (tables without seconds are then left out). What counts is regret: 0 is the
best value known of a table, 1 what its median configuration reaches, both at their best evaluation. Intervals are 95 %,
by resampling tables and, within them, seeds. The policies are the packages' own code; nothing trains.

``--curves`` are our own (``record_curves.py``), used by default where they were recorded. ``--taskset`` and
``--lcbench`` take the curves of TaskSet (Metz et al., 2020; a Parquet file a task) and LCBench (Zimmer et al., 2021;
the surrogate of YAHPO Gym, which needs onnxruntime). Six of LCBench's data sets are for choosing policies, all other
tables for checking them. The peer ``syne-tune-asha`` needs syne-tune.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "platform"), str(ROOT / "tests" / "support")]

import optuna  # noqa: E402
from optuna.pruners import HyperbandPruner, MedianPruner, SuccessiveHalvingPruner  # noqa: E402
from shared import machine  # noqa: E402
from shared.curve_tables import (  # noqa: E402
    CHOOSING,
    EVALUATIONS,
    CurveTable,
    fine_tuning_table,
    lcbench_tables,
    taskset_tables,
)
from shared.replay import SHARES, Replay, ReplayedPolicy  # noqa: E402
from shared.replayed_ours import DefaultSearch, FreezeThawSearch  # noqa: E402
from shared.replayed_peers import OptunaSearch, RandomSearch, RayAsha, SyneTuneAsha  # noqa: E402

from finesearch.plan import Space  # noqa: E402

Make = Callable[[Space, int], ReplayedPolicy]
OURS = "freeze-thaw"
OWN: dict[str, Make] = {OURS: FreezeThawSearch, "default": DefaultSearch}
PEERS: dict[str, Make] = {
    "ray-asha-optuna": RayAsha,
    "optuna-tpe-halving": lambda space, seed: OptunaSearch(space, seed, SuccessiveHalvingPruner(min_resource=1)),
    "optuna-tpe-hyperband": lambda space, seed: OptunaSearch(
        space, seed, HyperbandPruner(min_resource=1, max_resource=EVALUATIONS, reduction_factor=3)
    ),
    "optuna-tpe-median": lambda space, seed: OptunaSearch(space, seed, MedianPruner()),
    "syne-tune-asha": SyneTuneAsha,
    "random": RandomSearch,
}
POLICIES = OWN | PEERS
DEFAULT = [name for name in POLICIES if name != "syne-tune-asha"]
RECORDED = ROOT / "tests" / "benchmarks" / "shared" / "fine_tuning_curves.parquet"
AT_END, AT_HALF = 0.75, 1.0
"""Goals: regret at the whole budget as a share of the best peer's; at half of it, of the best peer's at the whole."""


def tables_of(given: argparse.Namespace) -> list[CurveTable]:
    tables: list[CurveTable] = []
    if given.curves.exists():
        tables.append(fine_tuning_table(given.curves))
    if given.taskset:
        tables += taskset_tables(given.taskset)
    if given.lcbench:
        tables += lcbench_tables(given.lcbench)
    if given.use != "all":
        tables = [table for table in tables if (table.name in CHOOSING) is (given.use == "choosing")]
    return [table for table in tables if table.has_seconds] if given.seconds else tables


def replayed(table: CurveTable, policy: Make, seed: int, trials: int, in_seconds: bool) -> list[float]:
    """Regret at each share of the budget."""
    total = trials * (table.mean_seconds if in_seconds else EVALUATIONS)
    return Replay(table, total, in_seconds).run(policy(table.space, seed))


def interval(regrets: np.ndarray, draws: int = 1000) -> tuple[np.ndarray, np.ndarray]:
    """Ends (m,) of the 95 % interval of the mean of regrets (tables, seeds, m)."""
    chance = np.random.default_rng(0)
    tables, seeds, _ = regrets.shape
    means = []
    for _ in range(draws):
        rows = chance.integers(tables, size=tables)[:, None]
        means.append(regrets[rows, chance.integers(seeds, size=(tables, seeds))].mean(axis=(0, 1)))
    low, high = np.quantile(np.array(means), [0.025, 0.975], axis=0)
    return low, high


def summary(regrets: np.ndarray) -> dict[str, list[float]]:
    low, high = interval(regrets)
    mean = regrets.mean(axis=(0, 1))
    return {"mean": mean.tolist(), "low": low.tolist(), "high": high.tolist()}


def judged(rows: Mapping[str, Mapping[str, list[float]]]) -> dict[str, Any] | None:
    """Ours beside the best peer; None without both."""
    peers = {name: rows[name]["mean"][-1] for name in PEERS if name in rows}
    if OURS not in rows or not peers:
        return None
    best = min(peers, key=lambda name: peers[name])
    half, end = rows[OURS]["mean"][SHARES.index(0.5)], rows[OURS]["mean"][-1]
    met = end <= AT_END * peers[best] and half <= AT_HALF * peers[best]
    return {"best_peer": best, "peer_at_end": peers[best], "at_half": half, "at_end": end, "met": met}


def shown(rows: Mapping[str, Mapping[str, list[float]]]) -> str:
    """A table in Markdown."""
    heads = [f"{share:.0%} of the budget" for share in SHARES]
    lines = [f"| policy | {' | '.join(heads)} |", f"| --- |{' --- |' * len(heads)}"]
    for name, row in rows.items():
        cells = [
            f"{mean:.3f} ({low:.3f} to {high:.3f})"
            for mean, low, high in zip(row["mean"], row["low"], row["high"], strict=True)
        ]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def replay_all(tables: Sequence[CurveTable], given: argparse.Namespace) -> dict[str, np.ndarray]:
    """Regrets (tables, seeds, shares) of each policy."""
    regrets = {}
    for name in given.policies:
        began = time.perf_counter()
        regrets[name] = np.array(
            [
                [
                    replayed(table, POLICIES[name], seed, given.trials, given.seconds)
                    for seed in range(given.first_seed, given.first_seed + given.seeds)
                ]
                for table in tables
            ]
        )
        mean = " ".join(f"{value:.3f}" for value in regrets[name].mean(axis=(0, 1)))
        print(f"  {name}: {mean} ({time.perf_counter() - began:.0f} s)", file=sys.stderr, flush=True)
    return regrets


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--curves", type=Path, default=RECORDED)
    options.add_argument("--taskset", type=Path)
    options.add_argument("--lcbench", type=Path)
    options.add_argument("--use", choices=["choosing", "checking", "all"], default="all")
    options.add_argument("--policies", nargs="+", choices=list(POLICIES), default=DEFAULT)
    options.add_argument("--seeds", type=int, default=30)
    options.add_argument("--first-seed", type=int, default=0)
    options.add_argument("--trials", type=int, default=12, help="whole trials that the budget is worth")
    options.add_argument("--seconds", action="store_true", help="the budget is in seconds, not in evaluations")
    options.add_argument("--json", type=Path)
    given = options.parse_args()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.simplefilter("ignore")
    told: dict[str, Any] = {"benchmark": "search_quality", **machine.provenance()}
    print(machine.shown(told))
    tables = tables_of(given)
    if not tables:
        options.error(f"no curves: {given.curves} does not exist, and neither --taskset nor --lcbench gave any")
    unit = "seconds" if given.seconds else "evaluations"
    print(f"{len(tables)} tables, {given.seeds} seeds, {given.trials} trials' worth of {unit}\n")
    regrets = replay_all(tables, given)
    rows = {name: summary(each) for name, each in regrets.items()}
    verdict = judged(rows)
    print(shown(rows))
    if verdict is not None:
        print(f"\ngoals: {'met' if verdict['met'] else 'MISSED'} against {verdict['best_peer']}")
    told |= {"tables": [table.name for table in tables], "seeds": given.seeds, "unit": unit, "shares": SHARES}
    told |= {"policies": rows, "verdict": verdict}
    told |= {"regrets": {name: each.round(5).tolist() for name, each in regrets.items()}}  # by table, seed, share
    if given.json:
        given.json.write_text(json.dumps(told, indent=2) + "\n", encoding="utf-8")
    return 0 if verdict is None or verdict["met"] else 1


if __name__ == "__main__":
    sys.exit(main())
