"""Ray Tune's searcher: gets trials from the controller (resumed ones, then baselines, then the sampler's)."""

from __future__ import annotations

from typing import Any

from ray.tune.search import Searcher

from finesearch.tuning.controller.search_controller import SearchController
from finesearch.tuning.messages import parse_event, to_json


class StudySearcher(Searcher):
    """Gives Tune the trials that the controller decides on; holds no state of its own.

    Tune pickles its searcher into a scratch folder that is never read. The pickle is empty, since a search resumes from
    the journal.
    """

    def __init__(self, controller: SearchController) -> None:
        super().__init__(metric="value", mode="max")
        self._controller: SearchController | None = controller

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:  # type: ignore[override]
        assert self._controller is not None
        # Tune's own limit is fixed when the search begins, so the controller's decides.
        job = None if self._controller.is_full else self._controller.next_job(trial_id)
        if job is None:
            return Searcher.FINISHED if self._controller.is_finished else None
        return {"job": to_json(job)}

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Nothing: the scheduler has reported it already."""

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
