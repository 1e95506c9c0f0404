"""Executes the controller's decisions with Ray Tune; retries a trial whose actor died."""

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
from finesearch.tuning.cluster.placement_cleanup import PlacementCleanup
from finesearch.tuning.controller.search_controller import SearchController
from finesearch.tuning.ray_tune.scheduler import StudyScheduler
from finesearch.tuning.ray_tune.searcher import StudySearcher
from finesearch.tuning.ray_tune.trainable import WarmTrial
from finesearch.tuning.workers.worker_group import GroupSettings

LOOK_EVERY_S = 1.0
ACTOR_DEATHS = 2  # retries of a trial whose Tune actor died


class _StopAll(Stopper):
    """Ends running trials when the controller's ``should_stop_running`` is true; Tune polls it."""

    def __init__(self, controller: SearchController, when_ending: Callable[[], None]) -> None:
        self._controller: SearchController | None = controller
        self._when_ending: Callable[[], None] | None = when_ending
        self._looked_at = time.monotonic()

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        return False

    def stop_all(self) -> bool:
        if self._controller is None:
            return False
        self._controller.tick()
        now = time.monotonic()
        if self._when_ending is not None and now - self._looked_at >= LOOK_EVERY_S:
            self._looked_at = now
            if self._controller.is_ending:
                self._when_ending()
                self._when_ending = None
        return self._controller.should_stop_running

    def __getstate__(self) -> dict[str, Any]:
        return {"_controller": None, "_when_ending": None}


def run_tuner(
    controller: SearchController,
    settings: GroupSettings,
    when_ending: Callable[[], None] = lambda: None,
    callbacks: Sequence[Callback] = (),
) -> None:
    """Run trials until the controller is finished.

    when_ending: called once, when a worker group has nothing more to do and others still have. callbacks: Tune's.

    Raises:
        FinesearchError: a worker's error that would end every trial (bad data, a full disk).
    """
    if controller.is_finished:
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
                search_alg=StudySearcher(controller),
                scheduler=StudyScheduler(controller),
                num_samples=-1,
                reuse_actors=True,
            ),
            run_config=tune.RunConfig(
                name="tune",
                storage_path=str(scratch),  # Tune's own files are never read again
                stop=_StopAll(controller, when_ending),
                failure_config=tune.FailureConfig(max_failures=ACTOR_DEATHS),
                checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
                verbose=0,
                callbacks=list(callbacks),
            ),
        )
        assert threading.current_thread() is threading.main_thread(), "Tune handles signals in the main thread"
        with PlacementCleanup():
            tuner.fit()
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    if controller.fatal is not None:
        raise controller.fatal


def keep_secrets_home() -> None:
    """Keep Tune from passing secret variables of the driver to its actors.

    It would put the driver's AWS keys into their runtime environment, which Ray logs on every node and shows.
    """
    names = class_cache.ENV_VARS_TO_PROPAGATE
    names.difference_update([name for name in names if is_secret_name(name)])
