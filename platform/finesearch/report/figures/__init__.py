"""The figures of a report, as plain Plotly JSON: one function a file, each from a record to a figure."""

from finesearch.report.figures.best_so_far import history
from finesearch.report.figures.cost_scatter import cost
from finesearch.report.figures.importance_bars import importances
from finesearch.report.figures.learning_curves import curves
from finesearch.report.figures.parallel_coordinates import parallel
from finesearch.report.figures.plotly_spec import Figure
from finesearch.report.figures.timeline import timeline
from finesearch.report.run_record import RunRecord

__all__ = ["Figure", "all_figures", "cost", "curves", "history", "importances", "parallel", "timeline"]


def all_figures(record: RunRecord) -> list[Figure]:
    """Every figure of the report, in reading order."""
    return [
        history(record),
        curves(record),
        importances(record),
        *cost(record),
        parallel(record),
        timeline(record),
    ]
