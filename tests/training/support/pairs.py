"""Two real processes over gloo, each of which runs a script and writes down what its rank saw."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

from paths import PYTHONPATH

HERE = Path(__file__).parent


def seen_by_two(script: str, home: Path, out: Path) -> list[dict[str, Any]]:
    """Run ``SCRIPT RANK HOME OUT`` of this folder as ranks 0 and 1; what each wrote down.

    DeepSpeed has nothing to say to whoever watches a search.
    """
    environment = {**os.environ, "PYTHONPATH": PYTHONPATH, "OMP_NUM_THREADS": "1"}
    workers = [
        subprocess.Popen(
            [sys.executable, str(HERE / script), str(rank), str(home), str(out)],
            env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )
        for rank in (0, 1)
    ]  # fmt: skip
    for worker in workers:
        output, errors = worker.communicate(timeout=550)
        assert worker.returncode == 0, errors.decode()[-4000:]
        assert b"DeepSpeed" not in output + errors
    return [json.loads((out / f"seen-{rank}.json").read_text()) for rank in (0, 1)]


@contextmanager
def as_rank(rank: int, out: Path, timeout_s: float = 1800.0) -> Iterator[dict[str, Any]]:
    """This process as one of the two; what the block puts into the dictionary is written down.

    timeout_s: of a collective.
    """
    import torch
    import torch.distributed as dist

    torch.set_num_threads(1)
    os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE="2")
    dist.init_process_group(
        "gloo",
        store=dist.FileStore(str(out / "store"), 2),
        rank=rank,
        world_size=2,
        timeout=timedelta(seconds=timeout_s),
    )
    seen: dict[str, Any] = {}
    yield seen
    (out / f"seen-{rank}.json").write_text(json.dumps(seen))
    dist.destroy_process_group()
