"""Selects the plan's columns from a table, in types that ``datasets`` accepts."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from finesearch.errors import DataError

if TYPE_CHECKING:
    import pyarrow as pa


def require_columns(present: Sequence[str], columns: Mapping[str, str], name: str) -> list[str]:
    """The columns to read, without duplicates, after checking that all of them exist.

    present: the file's columns; columns: role -> column, as in the plan; name: the file, for the message.

    Raises:
        DataError: a column is missing, or occurs twice in the header.
    """
    for role, column in columns.items():
        if column not in present:
            close = difflib.get_close_matches(column, present, n=1)
            hint = f"Did you mean {close[0]!r}? " if close else ""
            raise DataError(
                f"{name}: no column {column!r}, which the plan names as `columns.{role}`.\n"
                f"  {hint}Columns here: {', '.join(present) or 'none'}.{_delimiter_hint(present)}"
            )
        if list(present).count(column) > 1:
            raise DataError(f"{name}: the column {column!r} stands twice in the header. Rename one of the two.")
    return list(dict.fromkeys(columns.values()))


def plain_table(table: pa.Table) -> pa.Table:
    """The same rows with dictionary-encoded columns (pandas categories) and large strings converted to plain ones."""
    import pyarrow as pa

    for i, field in enumerate(table.schema):
        kind = field.type.value_type if pa.types.is_dictionary(field.type) else field.type
        if pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
            kind = pa.string()
        if kind != field.type:
            table = table.set_column(i, field.with_type(kind), table.column(i).cast(kind))
    return table


def as_array(values: Sequence[Any], column: str, name: str) -> pa.Array:
    """Python values of one column as an Arrow array; integers and floats may be mixed, other types may not.

    Raises:
        DataError: two rows have values of different types.
    """
    import pyarrow as pa

    try:
        return pa.array(values)
    except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError) as error:
        first = next((row, value) for row, value in enumerate(values) if value is not None)
        for row, value in enumerate(values):
            if value is not None and type(value) is not type(first[1]):
                raise DataError(
                    f"{name}, row {row + 1}: the column {column!r} holds {_kind(value)} ({value!r}), but row"
                    f" {first[0] + 1} holds {_kind(first[1])} ({first[1]!r}).\n  Write the column in one type."
                ) from error
        raise DataError(f"{name}: the column {column!r} cannot be read: {error}\n  Write it in one type.") from error


def concat_tables(tables: Iterable[pa.Table], names: Sequence[str]) -> pa.Table:
    """The concatenated rows of several files of one split.

    Raises:
        DataError: a column's type differs from that in the first file.
    """
    import pyarrow as pa

    parts = list(tables)
    for table, name in zip(parts[1:], names[1:], strict=True):
        for field in table.schema:
            expected = parts[0].schema.field(field.name).type
            if field.type != expected and not pa.types.is_null(field.type) and not pa.types.is_null(expected):
                raise DataError(
                    f"{name}: the column {field.name!r} holds {field.type}, but {expected} in {names[0]}.\n"
                    "  Write the column in one type in every file of a split."
                )
    return pa.concat_tables(parts, promote_options="default")


def _kind(value: Any) -> str:
    words = {str: "a string", bool: "a boolean", int: "an integer", float: "a number", dict: "an object"}
    return words.get(type(value), f"a {type(value).__name__}")


def _delimiter_hint(present: Sequence[str]) -> str:
    """A hint at another delimiter, if the header has only one column.

    >>> _delimiter_hint(["text;label"])
    " Only one column: is the delimiter ';'? Expected commas, or tabs in a .tsv file."
    """
    if len(present) == 1:
        for mark, spelled in ((";", "';'"), ("\t", "a tab"), ("|", "'|'")):
            if mark in present[0]:
                return f" Only one column: is the delimiter {spelled}? Expected commas, or tabs in a .tsv file."
    return ""
