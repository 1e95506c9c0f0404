"""The Tune trial: passes jobs to its warm group and the group's events to Tune."""

from __future__ import annotations

import json
import os
from typing import Any, ClassVar

import ray
from ray import tune

from finesearch.tuning.group import GroupSettings, WarmGroup


class WarmTrial(tune.Trainable):
    """Run with ``reuse_actors=True``: one actor serves trial after trial, and with it its worker group stays.

    ``setup`` and ``reset_config`` have no effects, since Tune may call them for a trial that another actor then runs:
    the group starts, and a job is posted, in ``step``.
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
        self._generation: int | None = None
        self._unanswered: int | None = None

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self._generation = self._unanswered = None
        return True

    def step(self) -> dict[str, Any]:
        if self._group is None:
            actor = ray.get_runtime_context().get_actor_id() or ""
            self._group = WarmGroup(self.settings, f"group-{actor[:8]}-{os.getpid()}")
        if self._generation is None:
            self._generation = self._group.post(json.loads(self.config["job"]))
        elif self._unanswered is not None:  # Tune asks for another step, so the scheduler let the trial go on
            self._group.answer(self._generation, self._unanswered, True)
        event = self._group.wait(self._generation)
        if event.pop("kind") == "evaluation":
            self._unanswered = event["step"]
            return {"value": 0.0, "payload": json.dumps(event)}
        return {"value": 0.0, "done": True, "payload": json.dumps(event)}

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Nothing: checkpoints are written by the workers, and a search is resumed from its journal."""

    def load_checkpoint(self, checkpoint: Any) -> None:
        """Nothing, as above."""

    def cleanup(self) -> None:
        if self._group is not None:
            self._group.close()
