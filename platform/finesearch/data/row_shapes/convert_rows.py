"""Converts the rows of every split to the shape that the task reads, and says so in notes."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from finesearch.data.row_shapes.chats import convert_chats
from finesearch.data.row_shapes.entity_tags import convert_tags
from finesearch.data.row_shapes.label_columns import join_label_columns
from finesearch.data.row_shapes.numbered_labels import name_numbers

if TYPE_CHECKING:
    from finesearch.data.sources import LoadedSource
    from finesearch.plan import TaskPlan

_NUMBERED = {"text-classification": "label", "token-classification": "tags", "relation-extraction": "relation"}
"""Kind of task -> the role whose numbers ``task.label_names`` names."""


def convert_rows(source: LoadedSource, task: TaskPlan) -> LoadedSource:
    """The source with rows in the shape that the task reads; rows that have it already stay as they are.

    Raises:
        DataError: a row that is half in another shape, by file and row.
    """
    tables, notes = dict(source.tables), list(source.notes)
    if task.label_columns:
        into = task.columns["label"]
        tables = {
            split: join_label_columns(table, task.label_columns, into, source.origins[split])
            for split, table in tables.items()
        }
    numbered = task.columns.get(_NUMBERED.get(task.kind, ""))
    if task.label_names and numbered and not task.label_columns and task.form != "regression":
        for split, table in tables.items():
            tables[split] = name_numbers(table, numbered, task.label_names, source.origins[split])
    if task.kind == "token-classification" and "tags" in task.columns:
        tables, found = convert_tags(tables, task.columns["tags"])
        notes += found
    if task.kind == "dialogue":
        tables, found = convert_chats(tables, source.origins, task.columns)
        notes += found
    return replace(source, tables=tables, notes=notes)
