"""CSV and TSV: every cell a string, an unquoted empty cell a missing value, a quoted one an empty string.

Two passes. The first, by the standard library in strict mode, only validates: unlike Arrow, it reports the line of an
unclosed quote or of a row with too many cells. The second, by Arrow, reads. The first takes about half a second per
million rows.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from finesearch.data.readers.plan_columns import require_columns
from finesearch.errors import DataError

if TYPE_CHECKING:
    import pyarrow as pa

_BLOCK_BYTES = 1 << 24


def read_csv(path: Path, name: str, columns: Mapping[str, str]) -> pa.Table:
    """The plan's columns of a CSV file, all strings.

    Raises:
        DataError: not UTF-8, bad quoting, a row with too many or too few cells, a missing column.
    """
    import pyarrow as pa
    from pyarrow import csv as arrow_csv

    delimiter = "\t" if path.suffix.lower() == ".tsv" else ","
    header = _checked_header(path, name, delimiter)
    wanted = require_columns(header, columns, name)
    convert = arrow_csv.ConvertOptions(
        include_columns=wanted,
        column_types={column: pa.string() for column in wanted},
        null_values=[""],
        strings_can_be_null=True,
        quoted_strings_can_be_null=False,
    )
    parse = arrow_csv.ParseOptions(delimiter=delimiter, newlines_in_values=True)
    # A row must fit into a block; cells of text corpora are far smaller.
    read = arrow_csv.ReadOptions(block_size=_BLOCK_BYTES)
    try:
        return arrow_csv.read_csv(path, read_options=read, parse_options=parse, convert_options=convert)
    except pa.ArrowInvalid as error:
        raise DataError(f"{name}: not readable as CSV: {error}.\n  Save it as UTF-8 CSV with a header line.") from error


def _checked_header(path: Path, name: str, delimiter: str) -> list[str]:
    """The header, after checking that every row is well formed."""
    limit = csv.field_size_limit(_BLOCK_BYTES)
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, delimiter=delimiter, strict=True)
            header = next(reader, None)
            if not header:
                raise DataError(f"{name}: the file is empty, expected a header line and rows.")
            started = reader.line_num + 1
            try:
                for cells in reader:
                    if cells and len(cells) != len(header):
                        raise DataError(
                            f"{name}, line {started}: {len(cells)} cells, expected {len(header)} as in the header"
                            f" ({', '.join(header)}).\n  Put cells that contain {delimiter!r} in double quotes."
                        )
                    started = reader.line_num + 1
            except csv.Error as error:
                raise DataError(
                    f"{name}, line {started}: bad quoting ({error}), expected a quoted cell to end with a quote and a"
                    f" {delimiter!r} or the end of the line.\n  Close the quote; write a quote inside a cell twice."
                ) from error
    except UnicodeDecodeError as error:
        raise not_utf8(path, name) from error
    finally:
        csv.field_size_limit(limit)
    return header


def not_utf8(path: Path, name: str) -> DataError:
    """The error for a file that is not UTF-8, with the first line that is not."""
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            try:
                line.decode("utf-8")
            except UnicodeDecodeError as error:
                what = f"byte 0x{line[error.start]:02x} is not UTF-8, expected UTF-8 text"
                return DataError(f"{name}, line {number}: {what}.\n  Save the file as UTF-8.")
    return DataError(f"{name}: not UTF-8, expected UTF-8 text.\n  Save the file as UTF-8.")
