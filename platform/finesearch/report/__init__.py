"""WHAT was learned: ranking, statistics, figures, files. Imports neither torch nor ray nor optuna.

``record``      what a search hands over: every trial, every score, every cost
``statistics``  intervals, the order of trials, the Pareto front
``standing``    ranked, refused or not ranked, and why
``verdict``     the sentence on top
``figures``     Plotly JSON, one figure a file
``page``        report.html, from ``sections``, ``table`` and ``markup``, with ``assets``
``markdown``, ``summary``, ``trials``   report.md, report.json, trials.parquet
``write``       all four, atomically by ``files``; ``wording`` says numbers alike everywhere
"""

from finesearch.report.report_files import write_report
from finesearch.report.run_record import Goal, ObjectiveRow, RunRecord, ScoredRow, State, StepRow, TrialRow
from finesearch.report.statistics import (
    pareto_front,
    percentile_interval,
    rank,
    resampled_means,
    resampled_scores,
    resampled_sums,
)
from finesearch.report.verdict import Verdict, verdict

__all__ = [
    "Goal",
    "ObjectiveRow",
    "RunRecord",
    "ScoredRow",
    "State",
    "StepRow",
    "TrialRow",
    "Verdict",
    "pareto_front",
    "percentile_interval",
    "rank",
    "resampled_means",
    "resampled_scores",
    "resampled_sums",
    "verdict",
    "write_report",
]
