"""One of two processes that train together with regularizers and the newer optimizers; writes down what this rank saw.

python regular_pair_worker.py RANK HOME OUT

OUT/skewed is a home whose classes are not of one size.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from pairs import as_rank
from regularizer_cases import ALL, METHODS, PLAIN
from training_cases import make_runner, run, trial

CASES: dict[str, tuple[int, dict[str, Any]]] = {
    **{
        f"zero{stage}-{name}": (stage, METHODS[name])
        for name in ("l2sp", "ema_decay", "swa_start")
        for stage in (0, 1, 2)
    },
    "zero0-adafactor": (0, {"optimizer": "adafactor"}),
    "zero0-lion": (0, {"optimizer": "lion", "learning_rate": 1e-3}),
    "zero2-lion": (2, {"optimizer": "lion", "learning_rate": 1e-3}),
}
RESUMED: dict[str, tuple[int, dict[str, Any]]] = {
    **{str(stage): (stage, ALL) for stage in (0, 1, 2)},
    "-adafactor": (0, {"optimizer": "adafactor"}),
}
SKEWED_STAGES = (0, 2)
# Two epochs of two steps.
SHORT = {"batch_size": 26}


def main(rank: int, home: Path, out: Path) -> None:
    with as_rank(rank, out) as seen:
        for name, (stage, settings) in CASES.items():
            uneven = make_runner(home, zero_stage=stage, workers_per_trial=2, gradient_accumulation_steps=4)
            result, _ = run(uneven, trial(out / name, **PLAIN, **settings))
            seen[name] = result.model_dump()
        for name, (stage, settings) in RESUMED.items():
            work = make_runner(home, zero_stage=stage, workers_per_trial=2)
            result, _ = run(work, trial(out / f"whole{name}", **SHORT, **settings))
            seen[f"whole{name}"] = result.model_dump()
            run(work, trial(out / f"parts{name}", **SHORT, **settings), stop_after=1 if rank == 0 else None)
            result, _ = run(work, trial(out / f"parts{name}", attempt=2, **SHORT, **settings))
            seen[f"parts{name}"] = result.model_dump()
        for stage in SKEWED_STAGES:
            uneven = make_runner(out / "skewed", zero_stage=stage, workers_per_trial=2, gradient_accumulation_steps=4)
            result, _ = run(uneven, trial(out / f"skewed{stage}", **PLAIN, class_weights="balanced"))
            seen[f"skewed{stage}"] = result.model_dump()


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]))
