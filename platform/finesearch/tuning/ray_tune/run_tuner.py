"""Runs the conductor's decisions on Ray Tune."""

from __future__ import annotations

import logging
import shutil
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ray import tune
from ray.tune import Callback, Stopper
from ray.tune.execution import class_cache

from finesearch.redaction import is_secret_name
from finesearch.tuning.cluster.placement_cleanup import Releasing
from finesearch.tuning.controller.search_controller import Conductor
from finesearch.tuning.ray_tune.scheduler import StudyScheduler
from finesearch.tuning.ray_tune.searcher import StudySearcher
from finesearch.tuning.ray_tune.trainable import WarmTrial
from finesearch.tuning.workers.worker_group import GroupSettings

LOOK_EVERY_S = 1.0
ACTOR_DEATHS = 2  # a trial whose Tune actor died is run again this often


class _StopAll(Stopper):
    """Ends running trials when the conductor says that nothing they report would be used; called again and again."""

    def __init__(self, conductor: Conductor, when_ending: Callable[[], None]) -> None:
        self._conductor: Conductor | None = conductor
        self._when_ending: Callable[[], None] | None = when_ending
        self._looked_at = time.monotonic()

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        return False

    def stop_all(self) -> bool:
        if self._conductor is None:
            return False
        self._conductor.tick()
        now = time.monotonic()
        if self._when_ending is not None and now - self._looked_at >= LOOK_EVERY_S:
            self._looked_at = now
            if self._conductor.is_ending:
                self._when_ending()
                self._when_ending = None
        return self._conductor.is_stopped

    def __getstate__(self) -> dict[str, Any]:
        return {"_conductor": None, "_when_ending": None}


def execute(
    conductor: Conductor,
    settings: GroupSettings,
    when_ending: Callable[[], None] = lambda: None,
    callbacks: Sequence[Callback] = (),
) -> None:
    """Run trials until the conductor has had enough.

    when_ending: called once, when a worker group has nothing more to do and others still have. callbacks: Tune's.

    Raises:
        FinesearchError: what a worker met that would end every trial (bad data, a full disk).
    """
    if conductor.is_finished:
        return
    for name in ("ray.tune", "ray.train", "ray.air"):
        logging.getLogger(name).setLevel(logging.ERROR)
    scratch = Path(settings.scratch)
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    keep_secrets_home()
    try:
        tuner = tune.Tuner(
            WarmTrial.bound_to(settings),
            tune_config=tune.TuneConfig(
                search_alg=StudySearcher(conductor),
                scheduler=StudyScheduler(conductor),
                num_samples=-1,
                reuse_actors=True,
            ),
            run_config=tune.RunConfig(
                name="tune",
                storage_path=str(scratch),  # Tune's own files are never read again
                stop=_StopAll(conductor, when_ending),
                failure_config=tune.FailureConfig(max_failures=ACTOR_DEATHS),
                checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
                verbose=0,
                callbacks=list(callbacks),
            ),
        )
        assert threading.current_thread() is threading.main_thread(), "Tune handles signals in the main thread"
        with Releasing():
            tuner.fit()
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    if conductor.fatal is not None:
        raise conductor.fatal


def keep_secrets_home() -> None:
    """Have Tune hand no secret variable of the driver to its actors.

    It would put the driver's AWS keys into their runtime environment, which Ray logs on every node and shows.
    """
    names = class_cache.ENV_VARS_TO_PROPAGATE
    names.difference_update([name for name in names if is_secret_name(name)])
