"""What workers tell of trials that nobody trained."""

from __future__ import annotations

from typing import Any

from finesearch.training.trial_types import Evaluation, TrialResult
from finesearch.tuning.messages import EvaluationReport, TrialCompleted

GROUP: dict[str, Any] = {"group": "group-1", "began": 1.7e9}


def evaluation(step: int, accuracy: float, seconds: float = 1.0, **changed: Any) -> EvaluationReport:
    fields = {
        "step": step, "epoch": 1.0, "metrics": {"accuracy": accuracy}, "train_loss": 0.1, "seconds": seconds,
        "tokens": 9, "trainable_parameters": 1234,
    }  # fmt: skip
    return EvaluationReport.model_validate({**fields, **GROUP, **changed})


def completed(best: EvaluationReport, last: EvaluationReport | None = None, **changed: Any) -> TrialCompleted:
    """The end of a trial whose evaluations were reported, but for its ``last``."""
    fields = {
        "stopped": False, "best": {name: getattr(best, name) for name in Evaluation.model_fields}, "history": (),
        "checkpoint": None, "trainable_parameters": best.trainable_parameters, "total_parameters": 5000,
        "seconds": best.seconds, "tokens": best.tokens, "checkpoint_bytes": 0,
    }  # fmt: skip
    return TrialCompleted(result=TrialResult.model_validate({**fields, **changed}), last=last, **GROUP)
