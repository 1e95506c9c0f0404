"""One of two processes that share nothing but an object store: a trial, stopped and gone on with by others.

python shelf_pair_worker.py RANK HOME OUT
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from finesearch.storage.object_store import ObjectStore
from pairs import as_rank
from training_cases import make_runner, run, trial

SHORT = {"batch_size": 26}


def main(rank: int, home: Path, out: Path) -> None:
    place = ObjectStore((out / "place").read_text())
    with as_rank(rank, out) as seen:
        work = make_runner(home, zero_stage=2, workers_per_trial=2)
        plain, _ = run(work, trial(out / "plain", **SHORT))
        spec = trial(Path("x"), **SHORT).model_copy(update={"directory": place.uri})
        os.environ["XDG_CACHE_HOME"] = str(out / f"first-{rank}")
        stopped, _ = run(work, spec, stop_after=1 if rank == 0 else None)
        seen["files"] = list(place.files())
        os.environ["XDG_CACHE_HOME"] = str(out / f"second-{rank}")
        result, diary = run(work, spec.model_copy(update={"attempt": 2}))
        seen["stopped_at"] = len(stopped.history)
        seen["trained"] = diary.trained
        seen["result"], seen["plain"] = result.model_dump(mode="json"), plain.model_dump(mode="json")


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]))
