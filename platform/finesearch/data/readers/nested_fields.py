"""Fields within fields, named by their path: ``message.body`` is the field ``body`` of the column ``message``.

A column whose own name holds the dot comes first.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from finesearch.data.readers.plan_columns import require_columns
from finesearch.data.row_shapes.set_column import set_column

if TYPE_CHECKING:
    import pyarrow as pa


def field_of(row: Mapping[str, Any], path: str) -> tuple[Any, bool]:
    """The value at a path of a row from JSON, and whether the row has such a field.

    >>> row = {"message": {"body": "hi"}, "a.b": 1}
    >>> field_of(row, "message.body"), field_of(row, "a.b"), field_of(row, "message.to")
    (('hi', True), (1, True), (None, False))
    """
    if path in row:
        return row[path], True
    value: Any = row
    for part in path.split("."):
        if not isinstance(value, Mapping) or part not in value:
            return None, False
        value = value[part]
    return value, True


def columns_to_read(schema: pa.Schema, columns: Mapping[str, str], name: str) -> list[str]:
    """The outermost columns that hold what the plan names, after checking that all of it is there.

    Raises:
        DataError: see ``require_columns``.
    """
    paths = [path for path in columns.values() if path not in schema.names and _holds(schema, path)]
    wanted = require_columns([*schema.names, *dict.fromkeys(paths)], columns, name)
    return list(dict.fromkeys(path.partition(".")[0] if path in paths else path for path in wanted))


def select_fields(table: pa.Table, columns: Mapping[str, str]) -> pa.Table:
    """The plan's columns of a table, those of a path taken out of their structs, with their class names."""
    import datasets
    import pyarrow.compute as pc

    wanted = list(dict.fromkeys(columns.values()))
    for path in wanted:
        if path not in table.column_names:
            root, *parts = path.split(".")
            feature: Any = datasets.Features.from_arrow_schema(table.schema)[root]
            for part in parts:
                feature = feature[part]
            table = set_column(table, path, pc.struct_field(table.column(root), parts), feature)
    return table.select(wanted)


def _holds(schema: pa.Schema, path: str) -> bool:
    import pyarrow as pa

    root, *parts = path.split(".")
    if schema.get_field_index(root) < 0:
        return False
    kind = schema.field(root).type
    for part in parts:
        if not pa.types.is_struct(kind) or kind.get_field_index(part) < 0:
            return False
        kind = kind.field(part).type
    return bool(parts)
