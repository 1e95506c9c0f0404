"""Validates text columns: every row must be a string; errors name file and row."""

from __future__ import annotations

from typing import TYPE_CHECKING

from finesearch.errors import DataError

if TYPE_CHECKING:
    import pyarrow as pa

    from finesearch.tasks.raw_splits import Origin


def read_texts(column: pa.ChunkedArray, name: str, origin: Origin) -> pa.ChunkedArray:
    """The column itself, after checking that every row is a string.

    Raises:
        DataError: the column is not text, or a row is null.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    kind = column.type
    if not (pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_null(kind)):
        raise DataError(
            f"{origin}: the column {name!r} holds {kind} (row 1: {column[0].as_py()!r}), expected strings.\n"
            "  Point `columns` at the column with the text, or write the values as strings."
        )
    if column.null_count:
        row = pc.index(pc.is_null(column), True).as_py()
        more = f" (and {column.null_count - 1} more without)" if column.null_count > 1 else ""
        raise DataError(
            f"{origin.where(row)}: no text in column {name!r}{more}, expected a string in every row.\n"
            '  Remove such rows; where an empty text is meant, write it as "".'
        )
    return column


def count_blank(column: pa.ChunkedArray) -> int:
    """Number of rows whose text is empty or only white space.

    >>> import pyarrow as pa
    >>> count_blank(pa.chunked_array([["a", "", " "]]))
    2
    """
    import pyarrow.compute as pc

    return int(pc.sum(pc.equal(pc.utf8_trim_whitespace(column), "")).as_py() or 0)
