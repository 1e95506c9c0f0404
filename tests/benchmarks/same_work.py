"""The same six trials on the same sentences by everyone: wall seconds of the whole process, from start to exit.

    python tests/benchmarks/same_work.py [--case mixed|deep] [--rounds 3] [--rows 2000] [--data DIR]
        [--peers plain expert] [--json FILE]

MiniLM with a classification head, batches of 32, an evaluation each epoch, nothing pruned. ``mixed`` freezes 0, 2, 4,
5, all and all of the 6 layers for 3 epochs; ``deep`` freezes 5 or all of them for 10. The sentences are the
quickstart's own, or come from a folder with train.csv, validation.csv and test.csv (``--text`` and ``--label`` name the
columns). Competitors take turns, each in a process of its own; everyone's final accuracies are shown, so that the
reader sees that they did the same work.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "platform")]

from shared import machine  # noqa: E402
from shared.competitors import EXPERT, OURS, PLAIN, Run, Work, finesearch, run_in_turns, transformers_search  # noqa: E402
from shared.matrix_work import Amount, bound  # noqa: E402
from shared.sentences import Sentences, write_sentences  # noqa: E402

LAYERS = 6


def trial(frozen: int, learning_rate: float) -> dict[str, Any]:
    """A trial that freezes the embeddings and so many layers; none and all are adaptations of their own."""
    if frozen == 0:
        return {"adaptation": "full", "learning_rate": learning_rate}
    if frozen == LAYERS:
        return {"adaptation": "head_only", "learning_rate": learning_rate}
    return {"adaptation": "freeze_bottom", "layers": frozen, "learning_rate": learning_rate}


@dataclass(frozen=True)
class Case:
    """Six trials as (frozen layers, learning rate), and how much faster than each peer the goal is."""

    epochs: int
    trials: tuple[tuple[int, float], ...]
    goals: Mapping[str, float]

    @property
    def frozen(self) -> list[int]:
        return [layers for layers, _ in self.trials]


CASES = {
    "mixed": Case(
        3, ((0, 2e-4), (2, 3e-4), (4, 4e-4), (5, 5e-4), (6, 3e-3), (6, 9e-3)), {PLAIN: 5.0, EXPERT: 1.5}
    ),
    "deep": Case(
        10, ((5, 3e-4), (5, 5e-4), (5, 8e-4), (6, 1e-3), (6, 3e-3), (6, 9e-3)), {PLAIN: 15.0, EXPERT: 5.0}
    ),
}  # fmt: skip


def compete(case: Case, epochs: int, sentences: Sentences, rounds: int, peers: list[str]) -> dict[str, list[Run]]:
    """Runs of ours and of each of ``peers``."""
    work = Work(sentences, epochs, tuple(trial(*one) for one in case.trials))
    everyone: dict[str, Callable[[int], Run]] = {
        OURS: lambda _: finesearch(work),
        PLAIN: lambda _: transformers_search(work, expert=False),
        EXPERT: lambda _: transformers_search(work, expert=True),
    }
    return run_in_turns({name: run for name, run in everyone.items() if name in (OURS, *peers)}, rounds)


def figures(name: str, case: Case, epochs: int, sentences: Sentences, runs: Mapping[str, list[Run]]) -> dict[str, Any]:
    """Medians, ratios to ours, goals, and the bound that arithmetic sets."""
    medians = {competitor: statistics.median(run.seconds for run in those) for competitor, those in runs.items()}
    amount = Amount(LAYERS, sentences.rows["train"], sentences.rows["validation"], epochs)
    return {
        "case": name,
        "epochs": epochs,
        "rows": sentences.rows,
        "frozen_layers": case.frozen,
        "arithmetic_bound": bound(case.frozen, amount),
        "competitors": {
            competitor: {
                "seconds": medians[competitor],
                "all_seconds": [run.seconds for run in those],
                "ratio": medians[competitor] / medians[OURS],
                "goal": case.goals.get(competitor),
                "final_accuracies": those[-1].final_accuracies,
            }
            for competitor, those in runs.items()
        },
    }


def shown(told: Mapping[str, Any]) -> str:
    lines = [
        f"{told['case']}: freeze {', '.join(map(str, told['frozen_layers']))} of {LAYERS} layers, "
        f"{told['epochs']} epochs, {', '.join(f'{count:,} {split}' for split, count in told['rows'].items())} rows",
        f"{'':44}{'median s':>10}{'to ours':>9}{'goal':>7}   final accuracies on validation",
    ]
    for name, row in told["competitors"].items():
        goal = "" if row["goal"] is None else f"{row['goal']:g}"
        values = " ".join(f"{value:.3f}" for value in row["final_accuracies"])
        lines.append(f"{name:44}{row['seconds']:>10.1f}{row['ratio']:>9.2f}{goal:>7}   {values}")
    lines.append(
        f"Keeping the outputs of frozen layers alone saves at most {told['arithmetic_bound']:.2f} times the matrix "
        "products."
    )
    missed = [name for name, row in told["competitors"].items() if row["goal"] and row["ratio"] < row["goal"]]
    lines.append(f"goals: {'met' if not missed else 'MISSED against ' + '; '.join(missed)}")
    return "\n".join(lines)


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--case", choices=CASES, help="default: both")
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--rows", type=int, default=2000)
    options.add_argument("--epochs", type=int, help="to make it small; the goals are for the case's own")
    options.add_argument("--peers", nargs="+", choices=["plain", "expert"], default=["plain", "expert"])
    options.add_argument("--data", type=Path)
    options.add_argument("--text", default="text")
    options.add_argument("--label", default="label")
    options.add_argument("--json", type=Path)
    given = options.parse_args()
    told: dict[str, Any] = {"benchmark": "same_work", **machine.provenance(), "cases": {}}
    print(machine.shown(told))
    peers = [{"plain": PLAIN, "expert": EXPERT}[peer] for peer in given.peers]
    with tempfile.TemporaryDirectory(prefix="sentences-") as folder:
        sentences = write_sentences(Path(folder), given.rows, given.data, given.text, given.label)
        for name in [given.case] if given.case else CASES:
            case = CASES[name]
            epochs = given.epochs or case.epochs
            runs = compete(case, epochs, sentences, given.rounds, peers)
            told["cases"][name] = figures(name, case, epochs, sentences, runs)
            print(shown(told["cases"][name]), flush=True)
    if given.json:
        given.json.write_text(json.dumps(told, indent=2) + "\n", encoding="utf-8")
    rows = [row for case in told["cases"].values() for row in case["competitors"].values()]
    return 0 if all(row["goal"] is None or row["ratio"] >= row["goal"] for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
