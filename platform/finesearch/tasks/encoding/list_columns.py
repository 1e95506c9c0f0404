"""Validates columns of lists or objects; errors name file and row."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn

from finesearch.errors import DataError

if TYPE_CHECKING:
    import pyarrow as pa

    from finesearch.tasks.raw_splits import Origin


def require_lists(column: pa.ChunkedArray, name: str, origin: Origin, expected: str) -> None:
    """Check that every row of a column holds a list.

    expected: the lists in words, ``lists of strings``.

    Raises:
        DataError: the column has another type, or a row is null.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    kind = column.type
    is_list = pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
    if not (is_list or pa.types.is_null(kind)):
        hint = "\n  A CSV file cannot hold lists: write JSON Lines or Parquet." if pa.types.is_string(kind) else ""
        raise DataError(f"{origin}: the column {name!r} holds {kind}, expected {expected} in every row.{hint}")
    if column.null_count:
        row = pc.index(pc.is_null(column), True).as_py()
        raise_row_error(origin, row, name, "holds nothing", f"Expected {expected}; an empty list is written as [].")


def raise_row_error(origin: Origin, row: int, name: str, what: str, advice: str) -> NoReturn:
    """Raise for one row: ``FILE, row N: the column 'NAME' WHAT``, and what to do.

    Raises:
        DataError: always.
    """
    raise DataError(f"{origin.where(row)}: the column {name!r} {what}.\n  {advice}")


def read_span(value: Any, origin: Origin, row: int, name: str, limit: int, unit: str) -> tuple[int, int]:
    """[start, end) of one span that lies inside a text of ``limit`` units (``tokens`` or ``characters``).

    Raises:
        DataError: it is not a pair of integers, is empty, or ends outside the text.
    """
    if not (isinstance(value, (list, tuple)) and len(value) == 2 and all(_is_whole(edge) for edge in value)):
        raise_row_error(origin, row, name, f"holds the span {value!r}", "Expected [start, end): two whole numbers.")
    start, end = value
    if start >= end:
        advice = "Its start must be below its end, which is the first unit behind the span."
        raise_row_error(origin, row, name, f"holds the span [{start}, {end}), which is empty", advice)
    if start < 0 or end > limit:
        raise_row_error(
            origin, row, name, f"holds the span [{start}, {end}), outside its text of {limit} {unit}", _COUNT
        )
    return int(start), int(end)


_COUNT = "Spans count from 0 and end behind their last unit: are they counted in the plan's column?"


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
