"""Rows and cells that no table can hold are refused with their place; nothing ends in a traceback."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from finesearch.data.readers import csv_files
from finesearch.data.readers.csv_files import read_csv
from finesearch.data.readers.json_files import read_json, read_jsonl
from finesearch.errors import DataError
from finesearch.plan.sections.csv_section import CsvPlan

COLUMNS = {"text": "text", "label": "label"}
ROW = '{"text": "fine", "label": "a"}'
MIB = 1 << 20


def nested(depth: int) -> str:
    return f'{{"text": {"[" * depth}{"]" * depth}, "label": "a"}}'


@pytest.mark.parametrize(
    ("row", "said"),
    [
        (r'{"text": "cut \ud83d", "label": "a"}', r"the escape \ud83d is half of a character"),
        (r'{"text": [{"role": "\udc00"}], "label": "a"}', r"the escape \udc00 is half of a character"),
        (nested(65), "nested more than 64 deep"),
        (nested(100_000), "nested more than 64 deep"),
        ('{"text": ' + "9" * 5_000 + ', "label": "a"}', "a number of thousands of digits"),
    ],
)
def test_a_row_that_no_table_can_hold_is_named(tmp_path: Path, row: str, said: str) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(f"{ROW}\n{row}\n")
    with pytest.raises(DataError, match=f"rows.jsonl, line 2: .*{re.escape(said)}"):
        read_jsonl(path, path.name, COLUMNS)
    path.write_text(f"[{ROW},\n{row}]")
    with pytest.raises(DataError, match=re.escape(said)):
        read_json(path, path.name, COLUMNS)


def test_whole_characters_by_escapes_are_read(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(r'{"text": "\ud83d\ude00 \u00e9", "label": "a"}' + "\n" + nested(2))
    read_whole: Callable[..., object] = read_jsonl
    with pytest.raises(DataError, match="row 2: the column 'text' holds a list"):
        read_whole(path, path.name, COLUMNS)
    path.write_text(r'{"text": "\ud83d\ude00 \u00e9", "label": "a"}')
    assert read_jsonl(path, path.name, COLUMNS).column("text").to_pylist() == ["😀 é"]


def test_a_cell_that_is_too_large_is_told_as_such(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text(f"text,label\nfine,a\n{'x' * (17 * MIB)},b\n")
    with pytest.raises(DataError, match=r"rows.csv, line 3: a cell of this row is larger than 16 MiB") as caught:
        read_csv(path, path.name, COLUMNS, CsvPlan())
    assert "bad quoting" not in caught.value.message


def test_a_row_of_large_cells_is_told_as_such(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(csv_files, "_BLOCK_BYTES", MIB)
    path = tmp_path / "rows.csv"
    large = "x" * (MIB - 9)
    path.write_text(f"text,label,more,rest\n{large},{large},{large},{large}\n{large},b,c,d\n")
    with pytest.raises(DataError, match=r"rows.csv: a row is larger than 1 MiB"):
        read_csv(path, path.name, COLUMNS, CsvPlan())
