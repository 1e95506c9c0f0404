"""One worker's workbench: what stays loaded between trials, and the trials themselves (being built)."""

from __future__ import annotations

from collections.abc import Callable

from finesearch.plan import TaskPlan, TrainingPlan
from finesearch.training.trial import Evaluation, TrialResult, TrialSpec


class Workbench:
    """Runs trial after trial of one task in one process; arguments are plain and picklable."""

    def __init__(
        self, task: TaskPlan, training: TrainingPlan, base: str, cache: str, metric: str, goal: str
    ) -> None:
        self.task_plan, self.training = task, training
        self.base, self.cache, self.metric, self.goal = base, cache, metric, goal

    def run(
        self, spec: TrialSpec, report: Callable[[Evaluation], bool], beat: Callable[[], None]
    ) -> TrialResult:
        """Train one trial."""
        raise NotImplementedError
