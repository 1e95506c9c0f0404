"""Reads JSON Lines (one object per line) and JSON (one list of objects)."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from finesearch.data.json_values import (
    MAX_DEPTH,
    may_hold_surrogates,
    parse_json,
    refuse_deep,
    refuse_surrogates,
)
from finesearch.data.readers.chat_values import arrow_turns
from finesearch.data.readers.compression import open_bytes
from finesearch.data.readers.csv_files import not_utf8
from finesearch.data.readers.nested_fields import field_of
from finesearch.data.readers.plan_columns import as_array, require_columns
from finesearch.data.readers.squad_file import is_squad_file, squad_rows
from finesearch.errors import DataError

if TYPE_CHECKING:
    import pyarrow as pa

_SHAPE = 'expected one object a row, such as {"text": "...", "label": "..."}'


def read_jsonl(path: Path, name: str, columns: Mapping[str, str]) -> pa.Table:
    """The plan's columns of a JSON Lines file; a key that a row lacks is a null value.

    Raises:
        DataError: a line that is not a JSON object, a missing column, a column of several types.
    """
    return _table(_lines(path, name), name, columns)


def read_json(path: Path, name: str, columns: Mapping[str, str]) -> tuple[pa.Table, str]:
    """The plan's columns of a file with one list of objects, of SQuAD's own file, or of JSON Lines under this suffix.

    Also a note about the file, or "".

    Raises:
        DataError: as ``read_jsonl``.
    """
    try:
        with open_bytes(path) as file:
            text = file.read()
        content = parse_json(text, name)
    except json.JSONDecodeError as error:
        if error.msg == "Extra data":
            return read_jsonl(path, name, columns), ""
        raise DataError(f"{name}, line {error.lineno}: not valid JSON ({error.msg}, column {error.colno}).") from error
    except UnicodeDecodeError as error:
        raise not_utf8(path, name) from error
    note = ""
    if is_squad_file(content):
        content, note = squad_rows(content, name)
    elif isinstance(content, dict) and all(column in content for column in columns.values()):
        content = [content]
    if not isinstance(content, list):
        got = f"an object with the keys {', '.join(content)}" if isinstance(content, dict) else type(content).__name__
        raise DataError(f"{name}: {got}, expected a list of objects.\n  Save the list alone, or as JSON Lines.")
    has_surrogates = may_hold_surrogates(text)
    return _table(_rows(content, name, has_surrogates), name, columns, unit="row"), note


def _rows(content: list[Any], name: str, has_surrogates: bool) -> Iterator[tuple[int, Any]]:
    for number, row in enumerate(content, start=1):
        where = f"{name}, row {number}"
        refuse_deep(row, where)
        if has_surrogates:
            refuse_surrogates(row, where)
        yield number, row


def _lines(path: Path, name: str) -> Iterator[tuple[int, Any]]:
    with open_bytes(path) as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            where = f"{name}, line {number}"
            try:
                row = parse_json(line, where)
            except json.JSONDecodeError as error:
                raise DataError(f"{where}: not valid JSON ({error.msg}, column {error.colno}), {_SHAPE}.") from error
            except UnicodeDecodeError as error:
                raise not_utf8(path, name) from error
            if line.count(b"[") + line.count(b"{") > MAX_DEPTH:
                refuse_deep(row, where)
            if may_hold_surrogates(line):
                refuse_surrogates(row, where)
            yield number, row


def _table(rows: Iterable[tuple[int, Any]], name: str, columns: Mapping[str, str], unit: str = "line") -> pa.Table:
    import pyarrow as pa

    wanted = list(dict.fromkeys(columns.values()))
    values: dict[str, list[Any]] = {column: [] for column in wanted}
    keys: dict[str, None] = {}
    for number, row in rows:
        if not isinstance(row, dict):
            raise DataError(f"{name}, {unit} {number}: {json.dumps(row)[:60]}, {_SHAPE}.")
        keys.update(dict.fromkeys(row))
        for column in wanted:
            value, is_there = field_of(row, column)
            values[column].append(value)
            if is_there:
                keys[column] = None
    if not keys:
        raise DataError(f"{name}: the file is empty, {_SHAPE}.")
    require_columns(list(keys), columns, name)
    if (talks := columns.get("messages")) is not None:
        values[talks] = [arrow_turns(turns) for turns in values[talks]]
    return pa.table({column: as_array(values[column], column, name) for column in wanted})
