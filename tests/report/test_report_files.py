"""The four files: what is in them, and that they are whole or not there."""

import errno
import json
import math
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from report_records import search_record
from test_report_page import HOSTILE, hostile_record

from finesearch.errors import DiskFullError, StorageError
from finesearch.report import RunRecord, TrialRow, write_report
from finesearch.report.markdown import markdown
from finesearch.report.report_files import as_storage_error, write_atomically
from finesearch.report.trials_parquet import trials_table

PLATFORM = Path(__file__).parents[2] / "platform"
FILES = ["report.html", "report.json", "report.md", "trials.parquet"]


def strict_json(text: str):
    def refuse(constant):
        raise AssertionError(f"{constant} is not JSON")

    return json.loads(text, parse_constant=refuse)


def test_a_report_is_four_files_and_nothing_else(tmp_path):
    page = write_report(search_record(), tmp_path / "deep" / "made-up")
    assert page == tmp_path / "deep" / "made-up" / "report.html"
    assert sorted(path.name for path in page.parent.iterdir()) == FILES
    write_report(search_record(trials=30), page.parent)
    assert sorted(path.name for path in page.parent.iterdir()) == FILES


def test_the_same_record_gives_the_same_files(tmp_path):
    write_report(search_record(), tmp_path / "a")
    write_report(search_record(), tmp_path / "b")
    for name in FILES:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_report_json_keeps_its_contract(tmp_path):
    record = search_record(trials=60, cost={"seconds": 5.0, "odd": math.inf, "trials": {"complete": 3}})
    write_report(record, tmp_path)
    content = strict_json((tmp_path / "report.json").read_text())
    assert content["schema_version"] == 2
    assert {"name", "metric", "goal", "baselines", "ranked", "unranked", "cost"} <= set(content)
    assert [row["rank"] for row in content["ranked"]] == [1, 2, 3]
    wanted = {"rank", "trial", "validation", "test", "parameters", "trainable_parameters", "seconds", "checkpoint"}
    assert all(wanted <= set(row) for row in content["ranked"])
    assert all({"trial", "state", "reason"} <= set(row) for row in content["unranked"])
    assert all(row["reason"] for row in content["unranked"])
    assert len(content["ranked"]) + len(content["unranked"]) == 60
    assert content["cost"] == {"seconds": 5.0, "odd": None, "trials": {"complete": 3}}
    assert content["verdict"]["tone"] == "better"
    assert (content["verdict"]["baseline"], content["verdict"]["compared"]) == ("ordinary", ["ordinary", "majority"])
    assert content["ranked"][0]["parameters"]["learning_rate"] == record.ranked[0].parameters["learning_rate"]


def test_a_refused_checkpoint_holds_no_rank_in_json(tmp_path):
    record = search_record()
    spoiled = record.ranked[0].model_copy(update={"error": "reloaded, it scored 0.41"})
    write_report(search_record(ranked=[spoiled, *record.ranked[1:]]), tmp_path)
    content = strict_json((tmp_path / "report.json").read_text())
    assert [(row["rank"], row["trial"]) for row in content["ranked"]] == [
        (1, record.ranked[1].trial),
        (2, record.ranked[2].trial),
    ]
    assert next(row for row in content["unranked"] if row["trial"] == spoiled.trial)["reason"] == (
        "reloaded, it scored 0.41"
    )


def test_trials_parquet_has_a_row_a_trial_with_typed_columns(tmp_path):
    record = search_record(trials=60)
    write_report(record, tmp_path)
    table = pq.read_table(tmp_path / "trials.parquet")
    assert table.num_rows == 60
    types = {field.name: field.type for field in table.schema}
    assert types["trial"] == pa.int64()
    assert types["started"] == pa.timestamp("us", tz="UTC")
    assert types["parameter.learning_rate"] == pa.float64()
    assert types["parameter.adaptation"] == pa.string()
    assert types["parameter.adaptation.freeze_bottom.layers"] == pa.int64()
    assert table.schema.metadata[b"schema_version"] == b"2"
    rows = table.to_pylist()
    first, original = rows[0], record.trials[0]
    assert first["history"][0]["value"] == original.history[0].value
    assert dict(first["history"][0]["metrics"]) == original.history[0].metrics
    assert first["seconds"] == original.seconds
    assert sorted(row["rank"] for row in rows if row["rank"] is not None) == [1, 2, 3]
    assert all((row["reason"] is None) == (row["rank"] is not None) for row in rows)


def test_columns_keep_their_types_whatever_the_trials():
    empty = trials_table(RunRecord(name="a", metric="accuracy", goal="max")).schema
    full = trials_table(search_record(trials=60)).schema
    assert [full.field(name) for name in empty.names] == list(empty)
    assert all(name.startswith("parameter.") for name in full.names[len(empty.names) :])


@pytest.mark.parametrize(
    ("values", "kind", "stored"),
    [
        ([1, 2, None], pa.int64(), [1, 2, None]),
        ([1, 0.5], pa.float64(), [1.0, 0.5]),
        ([True, False], pa.bool_(), [True, False]),
        ([True, 0.123456789, "a"], pa.string(), ["true", "0.123456789", "a"]),
        ([None, None], pa.string(), [None, None]),
    ],
)
def test_a_parameter_column_has_the_type_of_its_values(values, kind, stored):
    trials = [TrialRow(trial=i, state="complete", parameters={"p": value}) for i, value in enumerate(values)]
    column = trials_table(RunRecord(name="a", metric="accuracy", goal="max", trials=trials)).column("parameter.p")
    assert (column.type, column.to_pylist()) == (kind, stored)


def test_report_md_says_what_the_page_says():
    record = search_record(partial=True)
    text = markdown(record)
    assert "> **Partial: the search has not ended" in text
    assert "reloads" not in text
    assert re.search(r"\*\*Trial \d+ beats every baseline on test: accuracy 0\.9.* of the ordinary recipe", text)
    assert "| baseline | ordinary | 0.8771 | 0.8771 | 0.870 (0.855 to 0.885) | 22.6 M | 27 s |" in text
    assert "- validation and test were cut from train (10 % each, stratified by label, seed 0)" in text
    assert "```sh\npython platform/search.py space.yaml --name made-up\n```" in text
    assert "```yaml\nname: made-up\n" in text


def test_hostile_text_breaks_no_table_and_no_fence_of_report_md():
    text = markdown(hostile_record())
    assert "<img" not in re.sub(r"(`{3,})\w+\n.*?\n\1", "", text, flags=re.DOTALL).replace("\\<", "")
    rows = [line for line in text.splitlines() if line.startswith("| ")]
    assert {len(re.findall(r"(?<!\\)\|", row)) for row in rows} <= {10, 6, 3}
    assert "`" in HOSTILE


def test_long_tables_are_cut_in_report_md_and_say_so():
    text = markdown(search_record(trials=300))
    assert "197 more stand in report.json and trials.parquet." in text


@pytest.mark.parametrize("record", [RunRecord(name="a", metric="accuracy", goal="max"), hostile_record()])
def test_odd_records_make_all_four_files(tmp_path, record):
    write_report(record, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == FILES
    strict_json((tmp_path / "report.json").read_text())
    assert pq.read_table(tmp_path / "trials.parquet").num_rows == len(record.trials)


def test_a_write_that_fails_half_way_leaves_the_old_file(tmp_path):
    path = tmp_path / "report.html"
    path.write_text("old")
    code = (
        "import resource, signal, sys; from pathlib import Path\n"
        "from finesearch.errors import StorageError\n"
        "from finesearch.report.report_files import write_atomically\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))\n"
        "try: write_atomically(Path(sys.argv[1]), b'x' * 300_000)\n"
        "except StorageError as error: print(error)\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", code, str(path)], env={"PYTHONPATH": str(PLATFORM)}, capture_output=True, text=True
    )
    assert f"{path}: expected room for the report, got 'File too large'." in result.stdout, result.stderr
    assert path.read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["report.html"]


def test_a_full_disk_is_an_error_of_its_own():
    error = as_storage_error(Path("reports/a/report.html"), OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))
    assert isinstance(error, DiskFullError)
    assert str(error).startswith("reports/a/report.html: expected room for the report, got 'No space left on device'.")
    assert "give another folder with --reports" in str(error)


def test_a_folder_that_is_a_file_is_an_error_that_says_what_to_do(tmp_path):
    (tmp_path / "made-up").write_text("")
    with pytest.raises(StorageError, match=r"Make .*made-up a folder that you may write, or give another one"):
        write_atomically(tmp_path / "made-up" / "report.md", b"")


def test_a_reader_never_sees_half_a_file(tmp_path):
    path = tmp_path / "report.json"
    code = (
        "import sys; from pathlib import Path\n"
        "from finesearch.report.report_files import write_atomically\n"
        "for number in range(300): write_atomically(Path(sys.argv[1]), str(number % 10).encode() * 200_000)\n"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(path)], env={"PYTHONPATH": str(PLATFORM)}) as writer:
        seen = 0
        while writer.poll() is None:
            if path.exists():
                content = path.read_bytes()
                assert len(content) == 200_000
                assert len(set(content)) == 1
                seen += 1
    assert writer.returncode == 0
    assert seen > 0


def test_a_report_of_a_thousand_trials_is_fast_and_small(tmp_path):
    record = search_record(trials=1000, groups=8)
    start = time.perf_counter()
    write_report(record, tmp_path)
    assert time.perf_counter() - start < 10
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) < 8e6


def test_the_floor_imports_nothing_of_the_floors_beside_it(tmp_path):
    code = (
        "import sys, finesearch.report\n"
        "from pathlib import Path\n"
        "record = finesearch.report.RunRecord(name='a', metric='accuracy', goal='max')\n"
        "finesearch.report.write_report(record, Path(sys.argv[1]))\n"
        "print(sorted({'torch', 'ray', 'optuna', 'transformers', 'datasets'} & set(sys.modules)))\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], env={"PYTHONPATH": str(PLATFORM)}, capture_output=True, text=True
    )
    assert result.stdout.strip() == "[]", result.stderr
