"""The figures of a report, as plain Plotly JSON: one function a file, each makes a figure from a record."""

from finesearch.report.figures.best_so_far import best_so_far
from finesearch.report.figures.cost_scatter import cost_scatter
from finesearch.report.figures.importance_bars import importance_bars
from finesearch.report.figures.learning_curves import learning_curves
from finesearch.report.figures.parallel_coordinates import parallel_coordinates
from finesearch.report.figures.plotly_spec import Figure
from finesearch.report.figures.timeline import timeline
from finesearch.report.run_record import RunRecord

__all__ = [
    "Figure", "all_figures", "best_so_far", "cost_scatter", "importance_bars", "learning_curves",
    "parallel_coordinates", "timeline",
]  # fmt: skip


def all_figures(record: RunRecord) -> list[Figure]:
    """All figures of the report, in reading order."""
    return [
        best_so_far(record),
        learning_curves(record),
        importance_bars(record),
        *cost_scatter(record),
        parallel_coordinates(record),
        timeline(record),
    ]
