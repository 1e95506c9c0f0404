"""CSV and TSV: every cell a string, an unquoted empty cell a missing value, a quoted one an empty string.

Two passes. The first, by the standard library in strict mode, only validates: unlike Arrow, it reports the line of an
unclosed quote or of a row with too many cells. The second, by Arrow, reads. The first takes about half a second per
million rows.
"""

from __future__ import annotations

import codecs
import csv
import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from finesearch.data.readers.compression import format_suffix, open_bytes
from finesearch.data.readers.plan_columns import require_columns
from finesearch.errors import DataError

if TYPE_CHECKING:
    import pyarrow as pa

    from finesearch.plan.sections.csv_section import CsvPlan

_BLOCK_BYTES = 1 << 24
_SHORTEN = "\n  Shorten its cells, or write the data as JSON Lines or Parquet, which have no such bound."


@dataclass
class _Check:
    """What the first pass saw: the header, and cells over several lines that hold the delimiter as well.

    Such a cell may be text, or rows that an unpaired quote swallowed.
    """

    header: list[str]
    suspicious: int = 0
    most_lines: int = 0
    first_line: int = 0


def read_csv(path: Path, name: str, columns: Mapping[str, str], options: CsvPlan) -> tuple[pa.Table, str]:
    """The plan's columns of a CSV file, all strings; and a note on cells that may hold several rows, or "".

    Raises:
        DataError: not in the plan's encoding, bad quoting, a row with too many or too few cells, a missing column.
    """
    import pyarrow as pa
    from pyarrow import csv as arrow_csv

    delimiter = options.delimiter or ("\t" if format_suffix(path) == ".tsv" else ",")
    is_quoted = options.quoting == "double"
    checked = _check(path, name, delimiter, options)
    wanted = require_columns(checked.header, columns, name)
    convert = arrow_csv.ConvertOptions(
        include_columns=wanted,
        column_types={column: pa.string() for column in wanted},
        null_values=[""],
        strings_can_be_null=True,
        quoted_strings_can_be_null=False,
    )
    parse = arrow_csv.ParseOptions(
        delimiter=delimiter, quote_char='"' if is_quoted else False, newlines_in_values=is_quoted
    )
    # A row must fit into a block; cells of text corpora are far smaller.
    read = arrow_csv.ReadOptions(block_size=_BLOCK_BYTES, encoding=_arrow_encoding(options.encoding))
    try:
        table = arrow_csv.read_csv(path, read_options=read, parse_options=parse, convert_options=convert)
    except pa.ArrowInvalid as error:
        if "block size" in str(error):
            raise DataError(
                f"{name}: a row is larger than {_BLOCK_BYTES >> 20} MiB, expected a few pages of text.{_SHORTEN}"
            ) from error
        raise DataError(
            f"{name}: not readable as CSV: {error}.\n  Save it as {options.encoding.upper()} CSV with a header line."
        ) from error
    return table, _note(name, delimiter, checked)


def _arrow_encoding(encoding: str) -> str:
    # Arrow drops the mark at the beginning of a UTF-8 file itself.
    return "utf8" if codecs.lookup(encoding).name in ("utf-8", "utf-8-sig") else encoding


def _note(name: str, delimiter: str, checked: _Check) -> str:
    if not checked.suspicious:
        return ""
    cells = "cell holds" if checked.suspicious == 1 else "cells hold"
    return (
        f"{name}: {checked.suspicious} quoted {cells} line breaks and {delimiter!r} (the first from line "
        f"{checked.first_line}, the longest over {checked.most_lines} lines). If quotes are part of the text there, "
        f"rows were swallowed: write task.data.csv: {{quoting: none}}."
    )


def _check(path: Path, name: str, delimiter: str, options: CsvPlan) -> _Check:
    """Check that every row is well formed."""
    limit = csv.field_size_limit(_BLOCK_BYTES)
    encoding = "utf-8-sig" if _arrow_encoding(options.encoding) == "utf8" else options.encoding
    quoting: Any = csv.QUOTE_MINIMAL if options.quoting == "double" else csv.QUOTE_NONE
    try:
        with io.TextIOWrapper(open_bytes(path), encoding=encoding, newline="") as file:
            reader = csv.reader(file, delimiter=delimiter, quoting=quoting, strict=True)
            started = 1
            try:
                header = next(reader, None)
                if not header:
                    raise DataError(f"{name}: the file is empty, expected a header line and rows.")
                checked = _Check(header)
                started = reader.line_num + 1
                for cells in reader:
                    if cells and len(cells) != len(header):
                        advice = (
                            f"Put cells that contain {delimiter!r} in double quotes"
                            if options.quoting == "double"
                            else "Under task.data.csv.quoting none, quotes protect nothing: choose another delimiter"
                        )
                        raise DataError(
                            f"{name}, line {started}: {len(cells)} cells, expected {len(header)} as in the header"
                            f" ({', '.join(header)}).\n  {advice}."
                        )
                    if reader.line_num > started:
                        _look_for_swallowed_rows(checked, cells, delimiter, started)
                    started = reader.line_num + 1
            except csv.Error as error:
                if "field limit" in str(error):
                    raise _too_large(f"{name}, line {started}", is_quoted=options.quoting == "double") from error
                raise DataError(
                    f"{name}, line {started}: bad quoting ({error}), expected a quoted cell to end with a quote and a"
                    f" {delimiter!r} or the end of the line.\n  Close the quote; write a quote inside a cell twice. If"
                    f" quotes are part of the text, write task.data.csv: {{quoting: none}}."
                ) from error
    except UnicodeError as error:
        raise _not_decodable(path, name, options.encoding) from error
    finally:
        csv.field_size_limit(limit)
    return checked


def _too_large(where: str, is_quoted: bool) -> DataError:
    quote = " If the cell is shorter, a quote before it is never closed: close it." if is_quoted else ""
    return DataError(
        f"{where}: a cell of this row is larger than {_BLOCK_BYTES >> 20} MiB, expected a few pages of text.{_SHORTEN}"
        f"{quote}"
    )


def _look_for_swallowed_rows(checked: _Check, cells: list[str], delimiter: str, line: int) -> None:
    for cell in cells:
        lines = cell.splitlines()
        if len(lines) > 1 and delimiter in cell:
            checked.suspicious += 1
            checked.most_lines = max(checked.most_lines, len(lines))
            checked.first_line = checked.first_line or line


def _not_decodable(path: Path, name: str, encoding: str) -> DataError:
    if _arrow_encoding(encoding) == "utf8":
        error = not_utf8(path, name)
        return DataError(f"{error.message} Or name its encoding in task.data.csv: {{encoding: latin-1}}, say.")
    return DataError(f"{name}: not {encoding}, as task.data.csv.encoding says.\n  Name the encoding it was saved in.")


def not_utf8(path: Path, name: str) -> DataError:
    """The error for a file that is not UTF-8, with the first line that is not."""
    with open_bytes(path) as file:
        for number, line in enumerate(file, start=1):
            try:
                line.decode("utf-8")
            except UnicodeDecodeError as error:
                what = f"byte 0x{line[error.start]:02x} is not UTF-8, expected UTF-8 text"
                return DataError(f"{name}, line {number}: {what}.\n  Save the file as UTF-8.")
    return DataError(f"{name}: not UTF-8, expected UTF-8 text.\n  Save the file as UTF-8.")
