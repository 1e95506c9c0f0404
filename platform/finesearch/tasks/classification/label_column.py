"""Reads label columns of strings, integers, booleans or ClassLabel as class names; errors name file and row."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from finesearch.errors import DataError
from finesearch.tasks.encoding.unseen_labels import labels_of_train, unseen_label

if TYPE_CHECKING:
    import pyarrow as pa

    from finesearch.tasks.raw_splits import Origin

_INTEGER = re.compile(r"[+-]?\d+")
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?|[+-]?(nan|inf|infinity)", re.IGNORECASE)


def label_name(value: Any) -> str:
    """The class name of one label value as it came from a file.

    >>> label_name("spam"), label_name(3), label_name(True)
    ('spam', '3', 'True')
    """
    return str(value)


def ordered_names(names: set[str]) -> tuple[str, ...]:
    """Class names in the order of their class numbers: by value if all are integers, by spelling otherwise.

    >>> ordered_names({"10", "9", "-1"}), ordered_names({"pos", "neg"})
    (('-1', '9', '10'), ('neg', 'pos'))
    """
    if all(_INTEGER.fullmatch(name) for name in names):
        return tuple(sorted(names, key=lambda name: (int(name), name)))
    return tuple(sorted(names))


def read_labels(column: pa.ChunkedArray, feature: Any, name: str, origin: Origin) -> pa.ChunkedArray:
    """The class name of every row, as Arrow strings (n,).

    column: the label column of one split.
    feature: its ``datasets`` feature; a ``ClassLabel`` gives the names.
    name: the column's name in the file.

    Raises:
        DataError: a missing or empty label, floating-point numbers (also as text), or a type that names no class.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    kind = column.type
    names = getattr(feature, "names", None)
    if pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        raise _floats(column, name, origin)
    if not (_is_text(kind) or pa.types.is_integer(kind) or pa.types.is_boolean(kind) or pa.types.is_null(kind)):
        raise DataError(
            f"{origin}: the label column {name!r} holds {kind}, expected class names, integers or booleans.\n"
            "  Point `columns.label` at the column with one class a row; for lists set `task.form: multi-label`."
        )
    _refuse(pc.is_null(column), "has no label", name, origin, "Remove the rows or fill the labels in.")
    if names is not None:
        low, high = pc.less(column, 0), pc.greater_equal(column, len(names))
        advice = "-1 marks rows without a label. Remove them, or name a split that has labels."
        _refuse(pc.or_(low, high), f"has a class number outside 0..{len(names) - 1}", name, origin, advice, column)
        return pa.chunked_array(
            [pa.array(names, pa.string()).take(column.combine_chunks().cast(pa.int64()))], pa.string()
        )
    if pa.types.is_boolean(kind):
        return pc.if_else(column, label_name(True), label_name(False))
    column = column.cast(pa.string())
    _refuse(pc.equal(column, ""), "has an empty label", name, origin, "Remove the rows or fill the labels in.")
    distinct = column.unique().to_pylist()
    if all(_NUMBER.fullmatch(value) for value in distinct) and not all(_INTEGER.fullmatch(v) for v in distinct):
        raise _floats(column, name, origin)
    return column


def refuse_unknown(labels: pa.ChunkedArray, known: tuple[str, ...], name: str, origin: Origin, split: str) -> None:
    """Check that train has every label of validation or test.

    Raises:
        DataError: naming the missing label, how many rows have it, and the first of them.
    """
    import pyarrow.compute as pc

    for value in labels.unique().to_pylist():
        if value in known:
            continue
        row = pc.index(labels, value).as_py()
        count = pc.sum(pc.equal(labels, value)).as_py()
        found = f"the {split} split has the label {value!r} in column {name!r} ({count} row{'s' if count != 1 else ''})"
        advice = f"{labels_of_train(known)} Correct the label, add such rows to train or remove these."
        raise unseen_label(origin.where(row), value, known, found, advice)


def _is_text(kind: pa.DataType) -> bool:
    import pyarrow as pa

    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _refuse(
    bad: pa.ChunkedArray, what: str, name: str, origin: Origin, advice: str, values: pa.ChunkedArray | None = None
) -> None:
    """Raise for the first row where ``bad`` is true."""
    import pyarrow.compute as pc

    row = pc.index(bad, True).as_py()
    if row < 0:
        return
    count = pc.sum(bad).as_py()
    got = "" if values is None else f" ({values[row].as_py()})"
    more = f" (and {count - 1} more row{'s' if count > 2 else ''})" if count > 1 else ""
    raise DataError(f"{origin.where(row)}: {what}{got} in column {name!r}{more}.\n  {advice}")


def _floats(column: pa.ChunkedArray, name: str, origin: Origin) -> DataError:
    import pyarrow.compute as pc

    holes = column.null_count
    row = pc.index(pc.is_valid(column), True).as_py()
    example = f" (row {row + 1}: {column[row].as_py()})" if row >= 0 else ""
    hint = f"\n  {holes} rows have no label; that alone turns integers into floats in many tools." if holes else ""
    return DataError(
        f"{origin}: the label column {name!r} holds floating-point numbers{example}, expected class names, integers or"
        f" booleans: a class is not a quantity.{hint}\n"
        "  Write classes as integers or names; to learn a quantity, set `task.form: regression`."
    )
