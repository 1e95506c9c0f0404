"""Parameter importance by PED-ANOVA (Watanabe et al., 2023), conditional parameters within their branch."""

from __future__ import annotations

import warnings

import optuna
from optuna.trial import TrialState

from finesearch.tuning.study.journal import Journal

FEWEST_TRIALS = 8  # below that the estimate is noise


def parameter_importances(journal: Journal) -> dict[str, float]:
    """Share of each searched parameter in the quality metric's variation, most important first; {} with too few trials
    or equal values."""
    complete = journal.study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    if len(complete) < FEWEST_TRIALS or len({trial.values[0] for trial in complete}) < 2:
        return {}
    # Given a target, the evaluator explains low values, regardless of the study's direction, and warns about it.
    sign = -1.0 if journal.directions[0].maximize else 1.0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        warnings.filterwarnings("ignore", message="PedAnovaImportanceEvaluator computes", category=UserWarning)
        found = optuna.importance.get_param_importances(
            journal.study,
            evaluator=optuna.importance.PedAnovaImportanceEvaluator(),
            target=lambda trial: sign * trial.values[0],
        )
    return {name: float(value) for name, value in found.items()}
