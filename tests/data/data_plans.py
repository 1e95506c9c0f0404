"""A plan around a data section, for the tests of data."""

from finesearch.plan import DataPlan, TaskPlan


def task_plan(data: DataPlan, columns: dict[str, str] | None = None) -> TaskPlan:
    columns = columns or {"text": "text", "label": "label"}
    return TaskPlan(kind="text-classification", model="model", data=data, columns=columns, max_length=32)
