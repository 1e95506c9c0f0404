"""One of two processes that solve a probe together, and start from one; writes down what this rank saw.

python probe_pair_worker.py RANK HOME OUT
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from pairs import as_rank
from training_cases import make_runner, run, trial

STILL: dict[str, Any] = {
    "learning_rate": 1e-12,
    "weight_decay": 0.0,
    "dropout": 0.0,
    "attention_dropout": 0.0,
    "head_dropout": 0.0,
    "label_smoothing": 0.0,
    "epochs": 1,
}
"""Training that changes nothing: its loss and its evaluation are those of what it starts from."""

CASES: dict[str, tuple[int, dict[str, Any]]] = {
    "probe": (0, {"adaptation": "linear_probe", "adaptation_parameters": {"layer": 3}}),
    "start": (0, {**STILL, "head_init": "probe"}),
    "start under zero 3": (3, {**STILL, "head_init": "probe"}),
    "start of a hidden layer": (0, {**STILL, "head_init": "probe", "pooling": "mean", "head_hidden_size": 16}),
}


def main(rank: int, home: Path, out: Path) -> None:
    with as_rank(rank, out) as seen:
        for name, (stage, settings) in CASES.items():
            work = make_runner(home, zero_stage=stage, workers_per_trial=2)
            result, _ = run(work, trial(out / name, **settings))
            seen[name] = result.model_dump()


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]))
