"""How much each parameter mattered, by PED-ANOVA (Watanabe et al., 2023), conditional parameters within their
branch."""

from __future__ import annotations

import warnings

import optuna
from optuna.trial import TrialState

from finesearch.tuning.journal import Journal

FEWEST_TRIALS = 8  # below that the estimate is noise


def parameter_importances(journal: Journal) -> dict[str, float]:
    """Share of each searched parameter in the quality metric's variation, most important first; {} where too little was
    tried, or nothing differs."""
    complete = journal.study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    if len(complete) < FEWEST_TRIALS or len({trial.values[0] for trial in complete}) < 2:
        return {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        found = optuna.importance.get_param_importances(
            journal.study,
            evaluator=optuna.importance.PedAnovaImportanceEvaluator(),
            target=lambda trial: trial.values[0],
        )
    return {name: float(value) for name, value in found.items()}
