"""The report of a search: ranking, statistics, figures, files. Imports neither torch nor ray nor optuna.

``run_record``     the input: every trial, every score, every cost
``statistics``     bootstrap intervals, the order of trials, the Pareto front
``ranking``        ranked, refused or not ranked, and why
``verdict``        the sentence on top
``figures``        Plotly JSON, one figure a file
``page``           report.html, from ``page_sections``, ``tables`` and ``html``, with ``assets``
``markdown``, ``report_json``, ``trials_parquet``   report.md, report.json, trials.parquet
``report_files``   writes all four, each atomically
``report_index``   index.html: all runs of a folder of reports
``number_format``  numbers in words, the same in every file
"""

from finesearch.report.report_files import write_report
from finesearch.report.report_index import write_index
from finesearch.report.run_record import (
    Breakdown,
    ClassRow,
    ClassScores,
    Confusion,
    ExampleRow,
    Goal,
    GroupRow,
    ObjectiveRow,
    RunRecord,
    ScoredRow,
    State,
    StepRow,
    TrialRow,
)
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
    "Breakdown",
    "ClassRow",
    "ClassScores",
    "Confusion",
    "ExampleRow",
    "Goal",
    "GroupRow",
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
    "write_index",
    "write_report",
]
