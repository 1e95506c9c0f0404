"""One of two processes that train together: runs every case in order and writes down what this rank saw.

python pair_worker.py RANK HOME OUT
"""

from __future__ import annotations

import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from finesearch.errors import FinesearchError
from pairs import as_rank
from training_cases import PAIRS, SGD, adaptation_settings, files_at_most, make_runner, run, trial

# Two epochs of two steps.
SHORT = {"batch_size": 26}
PLAIN = {"dropout": 0.0, "attention_dropout": 0.0, "head_dropout": 0.0, "epochs": 1, "batch_size": 7}
UNEVEN = {**PLAIN, "layerwise_decay": 0.7}


def main(rank: int, home: Path, out: Path) -> None:
    with as_rank(rank, out) as seen:
        for stage in range(4):
            work = make_runner(home, zero_stage=stage, workers_per_trial=2)
            for adaptation in (adaptation for at, adaptation in PAIRS if at == stage):
                settings = {**SHORT, **adaptation_settings(adaptation)}
                result, diary = run(work, trial(out / f"zero{stage}-{adaptation}", **settings))
                seen[f"zero{stage}-{adaptation}"] = {"result": result.model_dump(), "reported": diary.steps}
            run(work, trial(out / f"zero{stage}-parts", **SHORT), stop_after=1 if rank == 0 else None)
            result, diary = run(work, trial(out / f"zero{stage}-parts", attempt=2, **SHORT))
            seen[f"zero{stage}-parts"] = {
                "result": result.model_dump(),
                "reported": diary.steps,
                "trained": diary.trained,
            }
            # Three rows in the last batch, six pieces of every batch.
            uneven = make_runner(home, zero_stage=stage, workers_per_trial=2, gradient_accumulation_steps=4)
            result, _ = run(uneven, trial(out / f"zero{stage}-uneven", **UNEVEN))
            seen[f"zero{stage}-uneven"] = {"result": result.model_dump()}
            result, _ = run(work, trial(out / f"zero{stage}-sgd", **{**PLAIN, **SGD, "batch_size": 13}))
            seen[f"zero{stage}-sgd"] = {"result": result.model_dump()}
        work = make_runner(home, workers_per_trial=2)
        seen["nan"] = error_of(work, trial(out / "nan", learning_rate=1e30, gradient_clipping=None))
        blocked = out / "blocked"
        blocked.write_text("a file where a folder is to be")
        seen["blocked"] = error_of(work, trial(blocked))
        # The second rank alone has no room for its part.
        split = make_runner(home, zero_stage=2, workers_per_trial=2)
        with files_at_most(50_000) if rank == 1 else nullcontext():
            seen["full"] = error_of(split, trial(out / "full", **SHORT))
        result, _ = run(work, trial(out / "after", **SHORT))
        seen["after"] = {"result": result.model_dump()}


def error_of(work: Any, spec: Any) -> str:
    try:
        run(work, spec)
    except (FinesearchError, OSError) as error:
        return f"{type(error).__name__}: {error}"
    return "nothing was raised"


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]))
