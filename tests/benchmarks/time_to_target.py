"""How long a search takes to find something good: 30 trials from one space, by everyone's own sampler and pruner.

    python tests/benchmarks/time_to_target.py [--trials 30] [--epochs 3] [--rounds 3] [--seed 0] [--rows 2000]
        [--peers plain expert ray] [--json FILE]

Ours is compared with each peer in turn. The target is 99 % of the better of the two's best accuracies on validation;
what counts is the wall seconds from the start of the process until an evaluation reaches it. One that never does counts
with the seconds of its whole search: the ratio is then at least what is shown, or at most where it is ours. The space:
learning rate 1e-5 to 1e-2, weight decay 0 to 0.3, everything trained, the embeddings and 0 to 5 of the 6 layers frozen,
or the head alone. Each round has a seed of its own, counted from ``--seed``. The winners' scores on test are shown
beside: speed by luck on validation would show.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "platform")]

from shared import machine  # noqa: E402
from shared.competitors import (  # noqa: E402
    EXPERT,
    OURS,
    PLAIN,
    RAY,
    Run,
    Work,
    finesearch,
    ray_tune_search,
    run_in_turns,
    transformers_search,
)
from shared.sentences import Sentences, write_sentences  # noqa: E402

SHARE = 0.99
GOALS = {PLAIN: 10.0, EXPERT: 4.0, RAY: 10.0}


def compete(given: argparse.Namespace, sentences: Sentences, peers: list[str]) -> dict[str, list[Run]]:
    """Every competitor's runs, each round with the next seed."""

    def work(number: int) -> Work:
        return Work(sentences, given.epochs, num_trials=given.trials, seed=given.seed + number)

    everyone = {
        OURS: lambda number: finesearch(work(number)),
        PLAIN: lambda number: transformers_search(work(number), expert=False),
        EXPERT: lambda number: transformers_search(work(number), expert=True),
        RAY: lambda number: ray_tune_search(work(number)),
    }
    return run_in_turns({name: run for name, run in everyone.items() if name in (OURS, *peers)}, given.rounds)


def compared(ours: list[Run], theirs: list[Run]) -> dict[str, Any]:
    """Medians over the rounds of one pair."""
    rounds = []
    for mine, peer in zip(ours, theirs, strict=True):
        target = SHARE * max(mine.best, peer.best)
        reached = {"ours": mine.seconds_until(target), "peer": peer.seconds_until(target)}
        counted = {"ours": reached["ours"] or mine.seconds, "peer": reached["peer"] or peer.seconds}
        rounds.append({"target": target, "reached": reached, **counted, "ratio": counted["peer"] / counted["ours"]})
    return {
        "rounds": rounds,
        **{key: statistics.median(each[key] for each in rounds) for key in ("target", "ours", "peer", "ratio")},
        "never_reached": {who: sum(each["reached"][who] is None for each in rounds) for who in ("ours", "peer")},
    }


def figures(runs: Mapping[str, list[Run]]) -> dict[str, Any]:
    """Everyone's searches, and each pair."""
    return {
        "competitors": {
            name: {
                "seconds": statistics.median(run.seconds for run in those),
                "best_validation": [run.best for run in those],
                "winner_test": [run.test for run in those],
                "evaluations": [len(run.evaluations) for run in those],
                "curves": [run.curve for run in those],
            }
            for name, those in runs.items()
        },
        "pairs": {
            name: {**compared(runs[OURS], those), "goal": GOALS[name]} for name, those in runs.items() if name != OURS
        },
    }


def shown(told: Mapping[str, Any]) -> str:
    lines = [f"{'':60}{'search s':>10}{'evaluations':>13}{'validation':>12}{'test':>8}"]
    for name, row in told["competitors"].items():
        middle = {key: statistics.median(row[key]) for key in ("evaluations", "best_validation", "winner_test")}
        lines.append(
            f"{name:60}{row['seconds']:>10.1f}{middle['evaluations']:>13.0f}{middle['best_validation']:>12.3f}"
            f"{middle['winner_test']:>8.3f}"
        )
    lines.append(f"\n{'until 99 % of the better, against':60}{'ours s':>10}{'peer s':>13}{'ratio':>12}{'goal':>8}")
    for name, row in told["pairs"].items():
        lines.append(f"{name:60}{row['ours']:>10.1f}{row['peer']:>13.1f}{row['ratio']:>12.2f}{row['goal']:>8g}")
        for who, count in row["never_reached"].items():
            if count:
                lines.append(f"  in {count} of {len(row['rounds'])} rounds {who} never reached the target")
    missed = [name for name, row in told["pairs"].items() if row["ratio"] < row["goal"]]
    lines.append(f"goals: {'met' if not missed else 'MISSED against ' + '; '.join(missed)}")
    return "\n".join(lines)


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--trials", type=int, default=30)
    options.add_argument("--epochs", type=int, default=3)
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--rows", type=int, default=2000)
    options.add_argument("--peers", nargs="+", choices=["plain", "expert", "ray"], default=["plain", "expert", "ray"])
    options.add_argument("--data", type=Path)
    options.add_argument("--text", default="text")
    options.add_argument("--label", default="label")
    options.add_argument("--json", type=Path)
    given = options.parse_args()
    told: dict[str, Any] = {"benchmark": "time_to_target", **machine.provenance()}
    print(machine.shown(told))
    peers = [{"plain": PLAIN, "expert": EXPERT, "ray": RAY}[peer] for peer in given.peers]
    with tempfile.TemporaryDirectory(prefix="sentences-") as folder:
        sentences = write_sentences(Path(folder), given.rows, given.data, given.text, given.label)
        print(f"{given.trials} trials of at most {given.epochs} epochs on {sentences.described} rows")
        runs = compete(given, sentences, peers)
    asked = {"trials": given.trials, "epochs": given.epochs, "seed": given.seed, "rows": sentences.rows}
    told |= {**asked, **figures(runs)}
    print(shown(told))
    if given.json:
        given.json.write_text(json.dumps(told, indent=2) + "\n", encoding="utf-8")
    return 0 if all(row["ratio"] >= row["goal"] for row in told["pairs"].values()) else 1


if __name__ == "__main__":
    sys.exit(main())
