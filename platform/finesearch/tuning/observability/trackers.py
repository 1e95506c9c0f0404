"""Experiment trackers: logs trials to TensorBoard, MLflow and Weights & Biases through Ray's loggers.

Tune's trials carry a job and events, both JSON; its loggers get a :class:`TrackedTrial` with the recipe, and the
metrics of each evaluation. A thread calls them, so that a slow server slows no trial; a tracker that fails is reported
once and skipped from then on.
"""

from __future__ import annotations

import functools
import json
import os
import queue
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ray.tune import Callback

from finesearch.errors import InputError
from finesearch.plan import Plan, WandbPlan
from finesearch.training.trial_types import Evaluation
from finesearch.tuning.controller.search_controller import SearchController
from finesearch.tuning.messages import EvaluationReport, Job, TrialFailed, parse_event, parse_job
from finesearch.tuning.observability.log_prefix import log_label

PATIENCE_S = 60.0  # for what is still to be logged when the trials have ended
ENVIRONMENT = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2", "MLFLOW_HTTP_REQUEST_TIMEOUT": "30"}
WANDB_KEY = "WANDB_API_KEY"
Say = Callable[[str], None]


@dataclass(frozen=True, eq=False)
class TrackedTrial:
    """One trial with the interface that Ray's loggers expect; ``experiment_dir_name`` is the search's name."""

    trial_id: str
    name: str
    config: dict[str, Any]
    local_path: str
    experiment_dir_name: str

    @property
    def evaluated_params(self) -> dict[str, Any]:
        return self.config

    def init_local_path(self) -> None:
        Path(self.local_path).mkdir(parents=True, exist_ok=True)

    def __str__(self) -> str:
        return self.name


@dataclass(eq=False)
class Tracker:
    """One of Ray's loggers, a ``LoggerCallback``.

    repeats: it starts a trial anew when a search resumes, so all earlier evaluations are logged again.
    """

    key: str
    logger: Any
    folder: Path
    repeats: bool
    is_well: bool = True


def make_trackers(plan: Plan, folder: Path) -> list[Tracker]:
    """The loggers that the plan asks for, connected to their servers; none by default.

    Raises:
        InputError: one of them cannot be reached.
    """
    tracking, made, folder = plan.tracking, [], folder.absolute()
    for key, value in ENVIRONMENT.items():
        os.environ.setdefault(key, value)
    if tracking.tensorboard:
        from ray.tune.logger import TBXLoggerCallback

        events = TBXLoggerCallback()  # type: ignore[no-untyped-call]
        made.append(Tracker("tensorboard", events, folder / "tensorboard", repeats=False))
    if tracking.mlflow is not None:
        from ray.air.integrations.mlflow import MLflowLoggerCallback

        server = MLflowLoggerCallback(
            tracking.mlflow.tracking_uri,
            experiment_name=tracking.mlflow.experiment or plan.name,
            tags={"finesearch.run": plan.name},
        )
        made.append(Tracker("mlflow", server, folder / "mlflow", repeats=True))
    if tracking.wandb is not None:
        from ray.air.integrations.wandb import WandbLoggerCallback

        project = WandbLoggerCallback(tracking.wandb.project, group=plan.name, **_wandb_settings(tracking.wandb))
        made.append(Tracker("wandb", project, folder / "wandb", repeats=True))
    for tracker in made:
        try:
            tracker.logger.setup()
        except Exception as error:  # any error of a third-party package
            raise InputError(
                f"tracking.{tracker.key}: expected to connect, got: {_first_line(error)}. "
                f"See that its server answers and its key is set, or leave tracking.{tracker.key} out."
            ) from error
    os.environ.pop(WANDB_KEY, None)  # Ray's logger would put it into a runtime environment, readable by all
    return made


def _wandb_settings(plan: WandbPlan) -> dict[str, Any]:
    """Arguments of ``wandb.init``; the key, if it is in the environment, goes to its process and nowhere else."""
    key = os.environ.get(WANDB_KEY)
    return ({"entity": plan.entity} if plan.entity else {}) | ({"settings": {"api_key": key}} if key else {})


class Tracking(Callback):
    """Tune's callback; passes everything on to the thread that calls the trackers.

    say: called when a tracker fails.
    """

    def __init__(self, controller: SearchController, trackers: list[Tracker], say: Say) -> None:
        self._controller: SearchController | None = controller
        self._trackers, self._say = trackers, say
        self._open: dict[str, dict[str, TrackedTrial]] = {}
        self._told: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._talk, daemon=True, name="tracking")
        self._thread.start()

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        if trial.trial_id in self._open:
            return  # its actor died, and another runs it
        assert self._controller is not None
        job, run = parse_job(trial.config["job"]), self._controller.plan.name
        journaled = self._controller.journals[job.study].get(job.number).evaluations
        earlier = [logged_metrics(evaluation) for step, evaluation in journaled.items() if step <= job.decided]
        shown = {tracker.key: show(job, trial.trial_id, run, tracker.folder) for tracker in self._trackers}
        self._open[trial.trial_id] = shown
        self._later(lambda tracker: _begin(tracker, shown[tracker.key], earlier if tracker.repeats else []))

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        event, shown = parse_event(result["event"]), self._open.get(trial.trial_id)
        if shown is None:
            return
        if isinstance(event, TrialFailed):
            self._end(trial.trial_id, failed=True)
            return
        evaluation = event if isinstance(event, EvaluationReport) else event.last
        if evaluation is not None:
            numbers = logged_metrics(evaluation)
            self._later(lambda tracker: tracker.logger.log_trial_result(0, shown[tracker.key], numbers))

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._end(trial.trial_id, failed=False)

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._end(trial.trial_id, failed=True)

    def on_experiment_end(self, trials: list[Any], **info: Any) -> None:
        for trial_id in list(self._open):
            self._end(trial_id, failed=False)
        self._later(lambda tracker: tracker.logger.on_experiment_end(trials))
        self._told.put(None)
        self._thread.join(PATIENCE_S)
        if self._thread.is_alive():
            self._say(f"tracking: not everything was told within {PATIENCE_S:.0f} s; the search does not wait longer")

    def _end(self, trial_id: str, failed: bool) -> None:
        shown = self._open.pop(trial_id, None)
        if shown is not None:
            self._later(lambda tracker: tracker.logger.log_trial_end(shown[tracker.key], failed))

    def _later(self, tell: Callable[[Tracker], None]) -> None:
        """Queue a call to each tracker that has not failed."""
        for tracker in self._trackers:
            self._told.put(functools.partial(self._tell, tracker, tell))

    def _tell(self, tracker: Tracker, tell: Callable[[Tracker], None]) -> None:
        if not tracker.is_well:
            return
        try:
            tell(tracker)
        except Exception as error:  # any error of a third-party package: reported, and never ends a search
            tracker.is_well = False
            self._say(f"tracking.{tracker.key}: failed, and is left out from here on: {_first_line(error)}")

    def _talk(self) -> None:
        while (call := self._told.get()) is not None:
            call()

    def __getstate__(self) -> dict[str, Any]:
        """Empty state: Tune pickles its callbacks into a scratch folder that is never read."""
        return {}


def _begin(tracker: Tracker, shown: TrackedTrial, earlier: list[dict[str, Any]]) -> None:
    shown.init_local_path()
    tracker.logger.log_trial_start(shown)
    for numbers in earlier:
        tracker.logger.log_trial_result(0, shown, numbers)


def show(job: Job, trial_id: str, run: str, folder: Path) -> TrackedTrial:
    """A trial for a tracker that may write below ``folder``."""
    config = {**shown_recipe(job.recipe.model_dump(mode="json")), "number": job.number, "seed": job.seed}
    local_path = folder / Path(job.directory).name
    return TrackedTrial(trial_id, f"{run} {log_label(job.study, job.number)}", config, str(local_path), run)


def shown_recipe(recipe: dict[str, Any]) -> dict[str, Any]:
    """A recipe with dotted keys; lists as text, unset values left out.

    >>> shown_recipe({"learning_rate": 0.1, "warmup": None, "adaptation_parameters": {"rank": 8}})
    {'learning_rate': 0.1, 'adaptation_parameters.rank': 8}
    """
    flat: dict[str, Any] = {}
    for key, value in recipe.items():
        if isinstance(value, dict):
            flat |= {f"{key}.{inner}": item for inner, item in shown_recipe(value).items()}
        elif value is not None:
            flat[key] = value if isinstance(value, bool | int | float | str) else json.dumps(value)
    return flat


def logged_metrics(evaluation: Evaluation) -> dict[str, Any]:
    """An evaluation as loggers expect it: metrics by name, training cost, and its number as the iteration."""
    costs = evaluation.model_dump(include={"train_loss", "epoch", "seconds", "tokens"}, exclude_none=True)
    return {**evaluation.metrics, **costs, "training_iteration": evaluation.step}


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
