"""Names for columns of numbers, from ``task.label_names``: the column becomes a ``ClassLabel`` of ``datasets``."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from finesearch.data.row_shapes.set_column import set_column
from finesearch.tasks.encoding.list_columns import raise_row_error

if TYPE_CHECKING:
    import pyarrow as pa

    from finesearch.tasks import Origin

_DIGITS = re.compile(r"\d+")


def name_numbers(table: pa.Table, column: str, names: Sequence[str], origin: Origin) -> pa.Table:
    """The table whose ``column``, of numbers or lists of numbers (also as text), has a name for each number.

    Numbers keep their order: number i is class i, also where train has no row of it.

    Raises:
        DataError: a value that is no number, or has no name, by file and row.
    """
    import datasets
    import pyarrow as pa

    values = table.column(column).to_pylist()
    is_list = any(isinstance(value, list) for value in values)
    numbers = []
    for row, value in enumerate(values):
        entries = value if isinstance(value, list) else [value]
        found = [None if entry is None else _number(entry, names, column, origin, row) for entry in entries]
        numbers.append(None if value is None else found if is_list else found[0])
    feature: Any = datasets.ClassLabel(names=list(names))
    kind = pa.list_(pa.int64()) if is_list else pa.int64()
    return set_column(table, column, pa.array(numbers, kind), datasets.List(feature) if is_list else feature)


def _number(value: Any, names: Sequence[str], column: str, origin: Origin, row: int) -> int:
    is_digits = isinstance(value, str) and _DIGITS.fullmatch(value)
    number = int(value) if is_digits or (isinstance(value, int) and not isinstance(value, bool)) else -1
    if not 0 <= number < len(names):
        named = f"task.label_names has names for the numbers 0 to {len(names) - 1}"
        advice = "Add its name there, correct the row, or remove label_names if the column holds names."
        raise_row_error(origin, row, column, f"holds {value!r}, and {named}", advice)
    return number
