"""What Ray Tune asks for trials: first those that an earlier driver left running, then baselines, then the sampler."""

from __future__ import annotations

from typing import Any

from ray.tune.search import Searcher

from finesearch.tuning.controller.search_controller import SearchController
from finesearch.tuning.messages import parse_event, to_json


class StudySearcher(Searcher):
    """Hands Tune the trials that the controller decides on; holds no state of its own.

    Tune pickles its searcher into a scratch folder that nobody reads: what is pickled is an empty shell, since the
    journal is what a search is resumed from.
    """

    def __init__(self, controller: SearchController) -> None:
        super().__init__(metric="value", mode="max")
        self._controller: SearchController | None = controller

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:  # type: ignore[override]
        assert self._controller is not None
        # Not by Tune's own limit, which stays what it was when the search began.
        job = None if self._controller.is_full else self._controller.next_job(trial_id)
        if job is None:
            return Searcher.FINISHED if self._controller.is_finished else None
        return {"job": to_json(job)}

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Nothing: the scheduler has reported it already, before it asked the pruner."""

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        assert self._controller is not None
        event = parse_event(result["event"]) if result and "event" in result else None
        self._controller.trial_ended(trial_id, event, error)

    def set_search_properties(self, metric: str | None, mode: str | None, config: dict[str, Any], **spec: Any) -> bool:
        return True

    def save(self, checkpoint_path: str) -> None:
        """Nothing to save; the journal is on disk already."""

    def restore(self, checkpoint_path: str) -> None:
        raise AssertionError("a search is resumed from its journal, never from Tune's own files")

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_controller": None}
