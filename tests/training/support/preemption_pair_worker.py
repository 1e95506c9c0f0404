"""One of two processes whose trial is put aside and taken up again: writes down what this rank saw.

python pause_pair_worker.py RANK HOME OUT
"""

from __future__ import annotations

import sys
from pathlib import Path

from finesearch.training.loop import preemption_watch
from finesearch.training.trial_types import Preempted
from pairs import as_rank
from training_cases import make_runner, run, trial

STAGES = (0, 2, 3)


def main(rank: int, home: Path, out: Path) -> None:
    preemption_watch.PREEMPTION_CHECK_INTERVAL_S = 0.0
    with as_rank(rank, out) as seen:
        for stage in STAGES:
            work = make_runner(home, zero_stage=stage, workers_per_trial=2)
            undisturbed, _ = run(work, trial(out / f"undisturbed{stage}"))
            spec = trial(out / f"zero{stage}")
            try:
                work.run(spec, lambda _: True, lambda: None, iter([False, True]).__next__)
            except Preempted as aside:
                said = str(aside)
            paused = sorted(path.name for path in (out / f"zero{stage}").glob("paused-*"))
            again, diary = run(work, spec.model_copy(update={"attempt": 2}))
            results = [undisturbed.model_dump(), again.model_dump()]
            seen[f"zero{stage}"] = {"results": results, "said": said, "paused": paused, "trained": diary.trained}


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]))
