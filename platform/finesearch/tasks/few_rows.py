"""Splits with so few rows that scores on them tell nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from finesearch.tasks.raw_splits import RawSplits
    from finesearch.tasks.task import Task, TaskFacts

FEW_ROWS = 10
COUNTED = ("accuracy", "subset_accuracy", "exact_match")
"""Metrics that are a count of right answers over all, so that they move in steps."""


def few_rows_warnings(task: Task, splits: RawSplits, facts: TaskFacts) -> tuple[str, ...]:
    """A warning for validation and test if they have fewer than ``FEW_ROWS`` rows, with what one answer is worth."""
    found, metric = [], task.plan.metric
    for split, tells in (("validation", "which trial is better"), ("test", "how good the winner is")):
        rows = len(splits[split])
        if rows >= FEW_ROWS:
            continue
        if task.plan.goals[metric] == "min":
            step = f"each is 1/{rows} of it"
        else:
            answers = task.answers(splits.plain_rows(split), facts)
            size = task.scale(metric, 1.0) / task.num_decisions(answers)
            what = f"the smallest step of {metric} is" if metric in COUNTED else f"one answer moves {metric} by up to"
            step = f"{what} {size:.3g}"
        found.append(
            f"The {split} split has {rows} row{'s' if rows > 1 else ''}, too few to tell {tells}: {step}. "
            f"Give more rows, or leave task.data.{split} out: a share of train is then cut for it."
        )
    return tuple(found)
