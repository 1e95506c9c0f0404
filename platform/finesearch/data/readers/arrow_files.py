"""Reads Parquet files, and Arrow files (file format and stream format)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from finesearch.data.readers.nested_fields import columns_to_read, select_fields
from finesearch.data.readers.plan_columns import plain_table
from finesearch.errors import DataError

if TYPE_CHECKING:
    import pyarrow as pa


def read_parquet(path: Path, name: str, columns: Mapping[str, str]) -> pa.Table:
    """The plan's columns of a Parquet file; no other column is read from disk.

    Raises:
        DataError: not a Parquet file, or a missing column.
    """
    import pyarrow as pa
    from pyarrow import parquet

    try:
        file = parquet.ParquetFile(path)
        return plain_table(select_fields(file.read(columns_to_read(file.schema_arrow, columns, name)), columns))
    except (pa.ArrowInvalid, OSError) as error:
        raise DataError(
            f"{name}: not a whole Parquet file ({error}).\n  Write it again, or name its `format`."
        ) from error


def read_arrow(path: Path, name: str, columns: Mapping[str, str]) -> pa.Table:
    """The plan's columns of an Arrow file or stream, mapped into memory rather than read.

    Raises:
        DataError: neither an Arrow file nor a stream, or a missing column.
    """
    import pyarrow as pa

    try:
        source = pa.memory_map(str(path))
        try:
            table = pa.ipc.open_file(source).read_all()
        except pa.ArrowInvalid:
            source.seek(0)
            table = pa.ipc.open_stream(source).read_all()
        # Offsets that lead out of the file would end the process when a row is read.
        table.validate(full=True)
    except (pa.ArrowInvalid, OSError) as error:
        raise DataError(
            f"{name}: neither an Arrow file nor an Arrow stream ({error}).\n  Write it again, or name its `format`."
        ) from error
    return plain_table(select_fields(table.select(columns_to_read(table.schema, columns, name)), columns))
