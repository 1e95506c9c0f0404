"""Best evaluation and early stopping: which evaluation of a trial ranks first, and whether patience has run out."""

from __future__ import annotations

import math
from dataclasses import dataclass

from finesearch.errors import DivergedError, TrialError
from finesearch.training.trial_types import Evaluation


@dataclass(frozen=True)
class RankingMetric:
    """The metric that trials are ranked by, and whether higher (``max``) or lower (``min``) is better."""

    metric: str
    goal: str

    def value(self, evaluation: Evaluation) -> float:
        """The ranking metric of an evaluation.

        Raises:
            TrialError: the task does not have it.
            DivergedError: it is NaN or infinite.
        """
        if self.metric not in evaluation.metrics:
            known = ", ".join(sorted(evaluation.metrics))
            raise TrialError(
                f"metric {self.metric!r} was not computed at evaluation {evaluation.step}; there are: {known}"
            )
        value = evaluation.metrics[self.metric]
        if not math.isfinite(value):
            raise DivergedError(f"metric {self.metric} became {value} at evaluation {evaluation.step}")
        return value

    def best(self, history: tuple[Evaluation, ...]) -> Evaluation | None:
        """The best evaluation, the earliest among equals."""
        sign = 1 if self.goal == "max" else -1
        return max(history, key=lambda evaluation: (sign * self.value(evaluation), -evaluation.step), default=None)

    def is_out_of_patience(self, history: tuple[Evaluation, ...], patience: int | None) -> bool:
        """Whether the last ``patience`` evaluations brought no improvement.

        >>> from finesearch.training.metric_history import RankingMetric
        >>> from finesearch.training.trial_types import Evaluation
        >>> history = tuple(
        ...     Evaluation(
        ...         step=i + 1, epoch=i, metrics={"f1": f1}, train_loss=0, seconds=0, tokens=0, trainable_parameters=1
        ...     )
        ...     for i, f1 in enumerate([0.5, 0.7, 0.7, 0.6])
        ... )
        >>> [RankingMetric("f1", "max").is_out_of_patience(history, patience) for patience in (1, 2, 3, None)]
        [True, True, False, False]
        """
        best = self.best(history)
        return patience is not None and best is not None and history[-1].step - best.step >= patience
