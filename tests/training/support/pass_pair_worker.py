"""One of two processes that train together with a token budget: writes down what this rank saw.

python pass_pair_worker.py RANK HOME OUT
"""

from __future__ import annotations

import sys
from pathlib import Path

from finesearch.training.steps.train_step import TrainStep
from pairs import as_rank
from training_cases import make_runner, run, trial

# One epoch of eight steps without dropout; the last batch has 3 rows.
PLAIN = {"dropout": 0.0, "attention_dropout": 0.0, "head_dropout": 0.0, "epochs": 1, "batch_size": 7}
# Texts of 8 to about 20 tokens: a pass of one to three rows.
BUDGET = 40


def main(rank: int, home: Path, out: Path) -> None:
    passes: list[int] = []
    count = TrainStep._passes

    def counted(train_step: TrainStep, batch: object) -> int:
        passes.append(count(train_step, batch))  # type: ignore[arg-type]
        return passes[-1]

    TrainStep._passes = counted  # type: ignore[method-assign]
    with as_rank(rank, out) as seen:
        for stage in range(4):
            passes.clear()
            work = make_runner(home, zero_stage=stage, workers_per_trial=2, max_tokens_per_pass=BUDGET)
            result, _ = run(work, trial(out / f"zero{stage}", **PLAIN))
            seen[f"zero{stage}"] = {"result": result.model_dump(), "passes": list(passes)}


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]))
