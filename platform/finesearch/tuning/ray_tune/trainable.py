"""The Tune trial: passes jobs to its warm group and the group's events to Tune."""

from __future__ import annotations

import os
import threading
from typing import Any, ClassVar

import ray
from ray import tune

from finesearch.tuning.messages import EvaluationReport, parse_job, to_json
from finesearch.tuning.workers.idle_release import AFTER_A_TRIAL_S, AFTER_AN_EVALUATION_S, IdleReleaser
from finesearch.tuning.workers.worker_group import GroupSettings, WarmGroup


class WarmTrial(tune.Trainable):
    """Run with ``reuse_actors=True``: one actor runs trial after trial, and keeps its worker group.

    ``setup`` and ``reset_config`` have no effects, since Tune may call them for a trial that another actor then runs:
    ``step`` starts the group and posts the job.
    """

    @classmethod
    def default_resource_request(cls, config: dict[str, Any]) -> tune.PlacementGroupFactory:
        # Not CPUs: the workers hold those. A share of the head keeps trial actors beside the driver.
        return tune.PlacementGroupFactory([{"node:__internal_head__": 0.001}])

    settings: ClassVar[GroupSettings]

    @classmethod
    def bound_to(cls, settings: GroupSettings) -> type[WarmTrial]:
        """This class with its settings; unlike ``tune.with_parameters`` it keeps its name, which dashboards show."""
        return type(cls.__name__, (cls,), {"settings": settings})

    def setup(self, config: dict[str, Any]) -> None:
        self._group: WarmGroup | None = None
        self._lock = threading.Lock()
        self._idle = IdleReleaser(self._lock, self.cleanup)
        self._groups = 0
        self._generation: int | None = None
        self._unanswered: int | None = None

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self._generation = self._unanswered = None
        return True

    def step(self) -> dict[str, Any]:
        with self._lock:
            self._idle.end()
            is_new = self._group is None
            if self._group is None:
                self._groups += 1
                actor = ray.get_runtime_context().get_actor_id() or ""
                self._group = WarmGroup(self.settings, f"group-{actor[:8]}-{os.getpid()}-{self._groups}")
            group = self._group
        if is_new or self._generation is None:
            job = parse_job(self.config["job"])
            # If the group released its devices in the middle of a trial, Tune continued it after its last evaluation.
            decided = max(job.decided, self._unanswered or 0)
            self._generation, event = group.begin(job.model_copy(update={"decided": decided}))
        else:  # Tune asks for another step, so the scheduler continued the trial
            event = group.go_on(self._generation, self._unanswered)
        result = {"value": 0.0, "event": to_json(event)}
        if isinstance(event, EvaluationReport):
            self._unanswered = event.step
            self._idle.begin(AFTER_AN_EVALUATION_S)
            return result
        self._idle.begin(AFTER_A_TRIAL_S)
        return {**result, "done": True}

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Nothing: checkpoints are written by the workers, and a search is resumed from its journal."""

    def load_checkpoint(self, checkpoint: Any) -> None:
        """Nothing, as above."""

    def cleanup(self) -> None:
        group, self._group = self._group, None
        if group is not None:
            group.close()
