"""Ray Tune's scheduler: asks the study's pruner, through the controller, whether a trial continues."""

from __future__ import annotations

from typing import Any

from ray.tune.execution.tune_controller import TuneController
from ray.tune.experiment import Trial
from ray.tune.schedulers import FIFOScheduler, TrialScheduler

from finesearch.tuning.controller.search_controller import SearchController
from finesearch.tuning.messages import EvaluationReport, parse_event


class StudyScheduler(FIFOScheduler):
    """Reports each evaluation to the journal, then stops trials that the pruner rejects.

    Tune calls the scheduler before the searcher and skips the searcher for a trial that is stopped, so this is the one
    place that sees every evaluation.
    """

    def __init__(self, controller: SearchController) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._controller: SearchController | None = controller

    def on_trial_result(self, tune_controller: TuneController, trial: Trial, result: dict[str, Any]) -> str:
        assert self._controller is not None
        if result.get("done"):
            return TrialScheduler.CONTINUE
        report = parse_event(result["event"])
        assert isinstance(report, EvaluationReport)
        go_on = self._controller.evaluation(trial.trial_id, report)
        return TrialScheduler.CONTINUE if go_on else TrialScheduler.STOP

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_controller": None}
