"""The figures of a report, as plain Plotly JSON: one function a file, each from a record to a figure."""

from finesearch.report.figures.cost import cost
from finesearch.report.figures.curves import curves
from finesearch.report.figures.history import history
from finesearch.report.figures.importances import importances
from finesearch.report.figures.parallel import parallel
from finesearch.report.figures.spec import Figure
from finesearch.report.figures.timeline import timeline
from finesearch.report.record import RunRecord

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
