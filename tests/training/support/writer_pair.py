"""One of two processes that train a model that writes, under every ZeRO stage.

python writer_pair.py RANK FOLDER NAME ...

Each NAME is a folder below FOLDER with a model and its rows.
"""

from __future__ import annotations

import itertools
import os
import sys
from pathlib import Path

from test_generation_trials import plan_of

from finesearch.plan import TrainingPlan
from finesearch.training.loop.trial_runner import TrialRunner
from training_cases import run, trial


def main(rank: int, folder: Path, names: list[str]) -> None:
    import torch
    import torch.distributed as dist

    torch.set_num_threads(1)
    os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE="2")
    dist.init_process_group("gloo", store=dist.FileStore(str(folder / "store"), 2), rank=rank, world_size=2)
    for name, stage in itertools.product(names, range(4)):
        home = folder / name
        training = TrainingPlan(epochs=1, batch_size=16, precision="fp32", zero_stage=stage, workers_per_trial=2)
        work = TrialRunner(plan_of(), training, str(home), str(home / "cache"), "bleu", "max")
        result, _ = run(work, trial(home / f"zero{stage}", epochs=1, learning_rate=5e-4, dropout=0.0))
        if rank == 0:
            (folder / f"{name}-zero{stage}.json").write_text(result.model_dump_json())
    dist.destroy_process_group()


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:])
