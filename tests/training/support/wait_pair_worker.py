"""One of two processes of which the second waits for the first longer than a collective does.

python wait_pair_worker.py RANK HOME OUT
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import torch

from finesearch.errors import ModelError
from finesearch.training.runtime import background
from finesearch.training.runtime.distributed import Processes
from pairs import as_rank

COLLECTIVE_S = 3.0


def solve() -> str:
    time.sleep(1.5 * COLLECTIVE_S)
    return "solved"


def fail() -> str:
    raise ModelError("no layer")


def main(rank: int, out: Path) -> None:
    background.WAIT_STEP_S = COLLECTIVE_S / 8
    # So little time is not for starting processes.
    (out / f"here-{rank}").touch()
    while not (out / f"here-{1 - rank}").exists():
        time.sleep(0.01)
    with as_rank(rank, out, timeout_s=COLLECTIVE_S) as seen:
        processes = Processes(rank, 2, torch.device("cpu"))
        seen["result"] = processes.run_long_on_rank_zero(solve)
        try:
            processes.run_long_on_rank_zero(fail)
        except ModelError as error:
            seen["error"] = error.message


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[3]))
