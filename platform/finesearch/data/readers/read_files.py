"""Reads one split from one or more files of any supported format."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from finesearch.data.readers.arrow_files import read_arrow, read_parquet
from finesearch.data.readers.compression import format_suffix, is_compressed
from finesearch.data.readers.csv_files import read_csv
from finesearch.data.readers.file_patterns import matching_files
from finesearch.data.readers.json_files import read_json, read_jsonl
from finesearch.data.readers.plan_columns import concat_tables
from finesearch.errors import DataError
from finesearch.plan.sections.csv_section import CsvPlan
from finesearch.tasks import Origin

if TYPE_CHECKING:
    import pyarrow as pa

    from finesearch.plan import DataPlan

READERS: dict[str, Callable[[Path, str, Mapping[str, str]], pa.Table]] = {
    "jsonl": read_jsonl,
    "parquet": read_parquet,
    "arrow": read_arrow,
}
SUFFIXES = {
    ".csv": "csv", ".tsv": "csv", ".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "json",
    ".parquet": "parquet", ".pq": "parquet", ".arrow": "arrow", ".feather": "arrow", ".ipc": "arrow",
}  # fmt: skip


def read_files(
    data: DataPlan, split: str, base: Path, columns: Mapping[str, str]
) -> tuple[pa.Table, Origin, list[str]]:
    """The concatenated rows of a split's files, their origin, and notes; relative paths start from ``base``.

    Raises:
        DataError: a file that is missing, of an unknown format, without rows, or rejected by its reader.
    """
    tables = []
    paths, notes = matching_files(data.files[split], base, split)
    for name in paths:
        path = base / Path(name).expanduser()
        _require_file(path, name, split)
        table, note = _read(path, name, columns, data)
        notes += [note] if note else []
        if not len(table):
            raise DataError(f"{name}: the {split} split is empty, expected at least one row below the header.")
        tables.append(table)
    parts = tuple((str(name), len(table)) for name, table in zip(paths, tables, strict=True))
    return concat_tables(tables, [str(name) for name in paths]), Origin(parts), notes


def _read(path: Path, name: str, columns: Mapping[str, str], data: DataPlan) -> tuple[pa.Table, str]:
    file_format = _format_of(path, name, data.format)
    if not is_compressed(path):
        return _read_as(file_format, path, name, columns, data)
    if file_format not in ("csv", "json", "jsonl"):
        raise DataError(
            f"{name}: a compressed {file_format} file, expected it as it is: its columns are compressed within.\n"
            "  Decompress it."
        )
    try:
        return _read_as(file_format, path, name, columns, data)
    except OSError as error:
        raise DataError(f"{name}: damaged or cut off ({error}).\n  Copy or compress the file again.") from error


def _read_as(
    file_format: str, path: Path, name: str, columns: Mapping[str, str], data: DataPlan
) -> tuple[pa.Table, str]:
    if file_format == "csv":
        return read_csv(path, name, columns, data.csv or CsvPlan())
    if file_format == "json":
        return read_json(path, name, columns)
    return READERS[file_format](path, name, columns), ""


def _format_of(path: Path, name: str, file_format: str) -> str:
    if file_format != "auto":
        return file_format
    suffix = format_suffix(path)
    if suffix not in SUFFIXES:
        raise DataError(
            f"{name}: unknown format {suffix or '(no suffix)'!r}, expected one of {', '.join(SUFFIXES)}, alone or with "
            ".gz or .zst behind it.\n"
            f"  Rename the file, or write `data.format`: csv, json, {', '.join(READERS)}."
        )
    return SUFFIXES[suffix]


def _require_file(path: Path, name: str, split: str) -> None:
    if path.is_file():
        return
    if path.is_dir():
        raise DataError(
            f"{name}: a folder, expected the file of the {split} split.\n"
            "  A folder that `datasets` wrote with save_to_disk goes under `data.folder`."
        )
    folder = path.parent
    if not folder.is_dir():
        raise DataError(f"{name}: no such file; the folder {folder} does not exist either.\n  Correct `data.{split}`.")
    present = sorted(entry.name for entry in folder.iterdir() if entry.is_file())
    close = difflib.get_close_matches(path.name, present, n=1)
    hint = f"Did you mean {close[0]!r}? " if close else ""
    listed = ", ".join(present[:10]) or "no file"
    where = f"{name}: no such file (the {split} split, looked for at {path})"
    raise DataError(f"{where}.\n  {hint}The folder holds {listed}.")
