"""Columns of 0 and 1, one for each label, as one column of lists (multi-label classification)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from finesearch.data.row_shapes.set_column import set_column
from finesearch.tasks.encoding.list_columns import raise_row_error

if TYPE_CHECKING:
    import pyarrow as pa

    from finesearch.tasks import Origin

_MEANINGS = {"0": False, "1": True, "0.0": False, "1.0": True, "false": False, "true": True}


def join_label_columns(table: pa.Table, names: Sequence[str], column: str, origin: Origin) -> pa.Table:
    """The table with one ``column`` of lists in place of the columns ``names``, which name and number the classes.

    Raises:
        DataError: a value other than 0, 1, true and false, by file and row.
    """
    import datasets
    import pyarrow as pa

    lists: list[list[int]] = [[] for _ in range(len(table))]
    for number, name in enumerate(names):
        for row, value in enumerate(table.column(name).to_pylist()):
            if _is_set(value, name, origin, row):
                lists[row].append(number)
    rest = table.select([name for name in table.column_names if name not in names])
    feature = datasets.List(datasets.ClassLabel(names=list(names)))
    return set_column(rest, column, pa.array(lists, pa.list_(pa.int64())), feature)


def _is_set(value: Any, name: str, origin: Origin, row: int) -> bool:
    meaning = _MEANINGS.get(str(value).strip().lower())
    if meaning is None:
        advice = "Expected 0 or 1 in every row. Remove rows that nobody has labelled, often marked by -1."
        raise_row_error(origin, row, name, f"holds {'nothing' if value is None else repr(value)}", advice)
    return meaning
