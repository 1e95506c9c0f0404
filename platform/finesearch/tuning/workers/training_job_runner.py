"""The training floor as a warm worker sees it: jobs in and out as plain JSON."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from finesearch.plan import TaskPlan, TrainingPlan
from finesearch.storage.local_dirs import on_this_node
from finesearch.training.loop.trial_runner import TrialRunner
from finesearch.training.trial_types import Evaluation, TrialSpec
from finesearch.tuning.cluster.shared_storage_check import check_attempt_is_seen


class TrainingJobRunner:
    """Runs trials on a :class:`~finesearch.training.TrialRunner`, made lazily in the worker that uses it."""

    def __init__(
        self,
        task: TaskPlan,
        training: TrainingPlan,
        base: str,
        cache: str,
        metric: str,
        goal: str,
        cache_depths: tuple[int, ...] = (),
    ) -> None:
        self._workbench = TrialRunner(
            task, training, base, str(on_this_node(cache)), metric, goal, cache_depths=cache_depths
        )

    def run(
        self,
        job: dict[str, Any],
        report: Callable[[dict[str, Any]], bool],
        beat: Callable[[], None],
        is_preempted: Callable[[], bool] | None = None,
    ) -> dict[str, Any]:
        fields = ("number", "attempt", "seed", "recipe", "directory", "bar")
        spec = TrialSpec.model_validate({key: job[key] for key in fields})
        check_attempt_is_seen(spec.directory, spec.attempt)

        def report_evaluation(evaluation: Evaluation) -> bool:
            return report(evaluation.model_dump(mode="json"))

        last: dict[str, Any] = {}

        def keep_last(evaluation: Evaluation) -> bool:
            last["last"] = evaluation.model_dump(mode="json")
            return True

        result = self._workbench.run(spec, report_evaluation, beat, is_preempted, keep_last)
        return result.model_dump(mode="json", exclude={"history"}) | last
