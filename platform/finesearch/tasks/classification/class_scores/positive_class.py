"""The class that metrics of one class count: ``task.positive``, or the rarer of two."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from finesearch.errors import DataError
from finesearch.plan.sections.task_kinds import ONE_CLASS_METRICS
from finesearch.tasks.encoding.unseen_labels import labels_of_train

if TYPE_CHECKING:
    import pyarrow as pa

    from finesearch.plan import TaskPlan
    from finesearch.tasks.raw_splits import Origin

_CURVES = ("roc_auc", "average_precision")


def choose_positive(
    plan: TaskPlan, names: Sequence[str], labels: Mapping[str, pa.ChunkedArray], origins: Mapping[str, Origin]
) -> tuple[str | None, list[str]]:
    """The class that the plan's metric counts, None if it counts all alike; and a note if the plan does not name it.

    labels: split -> the class of every row. Of two equally frequent classes, the last in the order of ``names``.

    Raises:
        DataError: ``task.positive`` is no class; a metric of one class, more than two classes and none named; a split
            in which the metric is a constant, since no row has the class, or all have.
    """
    needs_one = plan.metric in ONE_CLASS_METRICS
    notes = []
    positive = plan.positive
    if positive is not None and positive not in names:
        raise DataError(
            f"task.positive: no row of train has the label {positive!r}.\n  {labels_of_train(tuple(names))}"
        )
    if positive is None and (needs_one or plan.metric in _CURVES):
        if len(names) == 2:
            counts = {row["values"]: row["counts"] for row in labels["train"].value_counts().to_pylist()}
            first, last = (counts.get(name, 0) for name in names)
            positive = names[0] if first < last else names[1]
            which = "the rarer of two in train" if first != last else "the last of two equally frequent ones"
            notes.append(f"task.positive: {plan.metric} counts {positive!r}, {which}.")
        elif needs_one:
            raise DataError(
                f"task.metric: {plan.metric} counts one class, and train has {len(names)}.\n"
                f"  Name it in task.positive, or use macro_f1. {labels_of_train(tuple(names))}"
            )
    if needs_one or plan.metric in _CURVES:
        for split in ("validation", "test"):
            _refuse_constant(plan.metric, positive, labels[split].to_pylist(), split, origins[split])
    return positive, notes


def _refuse_constant(metric: str, positive: str | None, labels: Sequence[str], split: str, origin: Origin) -> None:
    found = set(labels)
    if positive is not None and positive not in found:
        what = f"no {split} row has the label {positive!r}"
    elif metric in _CURVES and len(found) == 1:
        what = f"all {split} rows have the label {labels[0]!r}"
    else:
        return
    raise DataError(
        f"{origin}: {what}, so that {metric} is the same for all models.\n"
        "  Name a split that has such rows and others, or another metric."
    )
