"""One of two processes that train together, each with a cache home of its own, as on two nodes.

python prefix_pair_worker.py RANK HOME OUT
"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

from finesearch.training.prefix_cache import disk_entries
from pairs import as_rank
from training_cases import make_runner, run, trial

FROZEN = {"adaptation": "freeze_bottom", "adaptation_parameters": {"layers": 2}, "batch_size": 14}


def main(rank: int, home: Path, out: Path) -> None:
    os.environ["XDG_CACHE_HOME"] = str(out / f"node-{rank}")
    with as_rank(rank, out) as seen:
        seen["home"] = str(disk_entries.home())
        for stage in range(4):
            work = make_runner(home, zero_stage=stage, workers_per_trial=2)
            result, _ = run(work, trial(out / f"{stage}-whole", **FROZEN))
            seen[f"{stage}-whole"] = result.model_dump()
            off = make_runner(home, zero_stage=stage, workers_per_trial=2, prefix_cache="off")
            result, _ = run(off, trial(out / f"{stage}-off", **FROZEN))
            seen[f"{stage}-off"] = result.model_dump()
        found: dict[int, int] = {}
        for entry in disk_entries.list_entries():
            found[entry.cut] = found.get(entry.cut, 0) + 1
        seen["entries"] = found
        size = 0.3 * sum(entry.bytes for entry in disk_entries.list_entries()) / (1 << 30)
        for stage in range(4):
            shutil.rmtree(disk_entries.home())
            half = make_runner(home, zero_stage=stage, workers_per_trial=2, prefix_cache_disk_gib=size)
            result, _ = run(half, trial(out / f"{stage}-half", **FROZEN))
            seen[f"{stage}-half"] = result.model_dump()


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]))
