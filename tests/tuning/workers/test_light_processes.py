"""Processes of a worker group that compute nothing load nothing to compute with."""

from __future__ import annotations

import functools
import os
import subprocess
import sys
import threading
from collections.abc import Callable

import pytest
from ray import cloudpickle

from finesearch.plan import TrainingPlan
from finesearch.tuning.ray_tune.trainable import WarmTrial
from finesearch.tuning.workers.mailbox_actor import MailboxActor
from finesearch.tuning.workers.ray_train import GroupOver, TorchProcessGroupConfig, WarmTrainer
from finesearch.tuning.workers.training_job_runner import TrainingJobRunner
from finesearch.tuning.workers.worker_group import GroupSettings
from finesearch.tuning.workers.worker_loop import WorkerLoopConfig, serve
from paths import PYTHONPATH
from plans import empty_plan

HEAVY = {"torch", "transformers", "deepspeed", "datasets", "optuna", "sklearn", "peft"}
LOOK = "import pickle, sys; pickle.load(sys.stdin.buffer); print(*{name.split('.')[0] for name in sys.modules})"


def settings() -> GroupSettings:
    runner = functools.partial(TrainingJobRunner, empty_plan().task, TrainingPlan(), ".", ".", "accuracy", "max")
    return GroupSettings(
        make_runner=runner, workers=1, cpus_per_worker=1.0, gpus_per_worker=0.0, hang_timeout_s=60.0, fresh=False,
        run_name="light", scratch="scratch",
    )  # fmt: skip


def trainer(is_over: Callable[[], bool] = bool) -> WarmTrainer:
    loop_config = {"loop_config": WorkerLoopConfig(None, settings().make_runner, False, "group", "light")}
    return WarmTrainer(
        serve, train_loop_config=loop_config, backend_config=TorchProcessGroupConfig("gloo"), is_over=is_over
    )


@pytest.mark.parametrize(
    "held",
    [lambda: WarmTrial.bound_to(settings()), trainer, lambda: MailboxActor],
    ids=["trial actor", "trainer in it", "mailbox"],
)
def test_what_such_a_process_holds_imports_no_torch(held: functools.partial[object]) -> None:
    done = subprocess.run(
        [sys.executable, "-c", LOOK],
        input=cloudpickle.dumps(held()),
        capture_output=True,
        check=True,
        env={**os.environ, "PYTHONPATH": PYTHONPATH},
    )
    loaded = set(done.stdout.decode().split())
    assert "finesearch" in loaded
    assert not loaded & HEAVY


def test_no_process_is_started_for_data_sets_that_do_not_exist() -> None:
    names = {type(callback).__name__ for callback in trainer()._create_default_callbacks()}
    assert "DatasetsCallback" not in names
    assert "PlacementGroupCleanerCallback" not in names
    assert {"BackendSetupCallback", "AcceleratorSetupCallback"} <= names


def test_a_group_without_more_work_starts_no_workers_in_the_place_of_lost_ones() -> None:
    over = threading.Event()
    first = trainer(over.is_set)._create_default_callbacks()[0]
    first.before_worker_group_start(None)
    over.set()
    with pytest.raises(GroupOver, match="no more trials"):
        first.before_worker_group_start(None)
