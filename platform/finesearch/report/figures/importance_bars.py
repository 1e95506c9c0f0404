"""Figure: importance of each hyperparameter."""

from finesearch.report.figures.plotly_spec import Figure, axis, round_all, text
from finesearch.report.run_record import RunRecord

MAX_BARS = 15


def importance_bars(record: RunRecord) -> Figure:
    """Importance of each hyperparameter, most important on top (PED-ANOVA, Watanabe et al., 2023)."""
    known = [(name, value) for name, value in record.importances.items() if value is not None]
    if not known:
        return Figure("importances", "Parameter importances", "Too few trials have finished to tell parameters apart.")
    shown = sorted(known, key=lambda pair: pair[1], reverse=True)[:MAX_BARS]
    caption = (
        "PED-ANOVA: how far a parameter sets the best trials apart from the rest. It says that a parameter matters, "
        "not in which direction."
    )
    if len(shown) < len(known):
        caption += f" The first {len(shown)} of {len(known)}."
    # Plotly draws from the bottom up.
    shown.reverse()
    trace = {
        "type": "bar",
        "orientation": "h",
        "x": round_all(value for _, value in shown),
        "y": [text(name, 42) for name, _ in shown],
        "marker": {"color": "var:accent"},
        "hovertemplate": "%{y}: %{x:.3f}<extra></extra>",
    }
    layout = {
        "xaxis": axis("importance", rangemode="tozero"),
        "yaxis": {"type": "category", "automargin": True},
        "showlegend": False,
        "bargap": 0.35,
    }
    return Figure(
        "importances", "Parameter importances", caption, [trace], layout, height=max(340, 110 + 26 * len(shown))
    )
