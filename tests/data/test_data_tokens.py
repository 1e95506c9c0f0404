"""Tokens are made once, whoever asks and whoever dies, and are mapped rather than read."""

import csv
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from data_plans import task_plan

from finesearch.data import TokenizedSplit, TokenizedSplits, tokenize
from finesearch.errors import StorageError
from finesearch.plan import DataPlan
from finesearch.tasks import RawSplits, make_task

PLATFORM = Path(__file__).parents[2] / "platform"
PROGRAM = Path(__file__).parent / "tokenising_processes.py"
Rows = list[tuple[str, str]]
Load = Callable[..., RawSplits]


@pytest.fixture
def folder(tmp_path: Path, rows: Rows) -> Path:
    with (tmp_path / "train.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("text", "label"), *rows])
    return tmp_path


@pytest.fixture
def make_tokens(folder: Path, load: Load, tokenizer: Any) -> Callable[..., TokenizedSplits]:
    """Tokens of ``train.csv``; keywords replace fields of the plan or the tokeniser's key."""

    def make(key: str = "minilm", **fields: Any) -> TokenizedSplits:
        plan = task_plan(DataPlan(train="train.csv")).model_copy(update=fields)
        splits, task = load(train="train.csv"), make_task(plan)
        return tokenize(splits, task, task.read(splits), tokenizer, key, folder / "cache")

    return make


def start(folder: Path, *arguments: object) -> subprocess.Popen[str]:
    variables = {**os.environ, "PYTHONPATH": str(PLATFORM), "TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, str(PROGRAM), str(folder), *map(str, arguments)]
    return subprocess.Popen(command, env=variables, stdout=subprocess.PIPE, text=True)


def calls(folder: Path) -> list[str]:
    return (folder / "calls").read_text().split() if (folder / "calls").exists() else []


def wait_until(claim: Callable[[], bool], seconds: float = 240.0) -> None:
    deadline = time.monotonic() + seconds
    while not claim():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)


def test_token_rows_are_what_the_task_encoded(make_tokens: Callable[..., TokenizedSplits], tokenizer: Any) -> None:
    tokens = make_tokens()
    row = tokens.train.rows([3])[0]
    assert tokenizer.decode(row["input_ids"]).startswith("[CLS] text number")
    assert tokens.train.column("labels") == [row["labels"] for row in tokens.train.rows()]
    assert tokens.train.lengths.dtype == np.int32
    assert tokens.train.lengths.tolist() == [len(row["input_ids"]) for row in tokens.train.rows()]
    assert [len(tokens[split]) for split in ("train", "validation", "test")] == [32, 4, 4]
    with pytest.raises(IndexError, match="row 32 of 32"):
        tokens.train.rows([32])


def test_a_second_call_finds_the_files(make_tokens: Callable[..., TokenizedSplits], folder: Path) -> None:
    first = make_tokens()
    stamp = first.train.path.stat().st_mtime_ns
    second = make_tokens()
    assert (first.built, second.built) == (True, False)
    assert second.train.path.stat().st_mtime_ns == stamp
    assert sorted(path.name for path in (folder / "cache" / "tokens").iterdir()) == [first.key, f"{first.key}.lock"]


def test_the_key_follows_everything_that_the_tokens_depend_on(
    make_tokens: Callable[..., TokenizedSplits], folder: Path, rows: Rows
) -> None:
    keys = [make_tokens().key, make_tokens(key="other").key, make_tokens(max_length=16).key]
    with (folder / "train.csv").open("a") as file:
        file.write("one more,odd\n")
    keys.append(make_tokens().key)
    assert len(set(keys)) == 4


def test_what_the_tokens_do_not_depend_on_leaves_the_key(
    make_tokens: Callable[..., TokenizedSplits], folder: Path
) -> None:
    key = make_tokens().key
    lines = (folder / "train.csv").read_text().splitlines()
    wider = [f"{line},{'note' if i == 0 else i}" for i, line in enumerate(lines)]
    (folder / "train.csv").write_text("\n".join(wider))
    assert make_tokens(metric="mcc").key == key


@pytest.mark.parametrize("damage", ["cut", "gone", "manifest", "flipped"])
def test_damaged_files_are_made_again(make_tokens: Callable[..., TokenizedSplits], damage: str) -> None:
    path = make_tokens().train.path
    if damage == "cut":
        os.truncate(path, path.stat().st_size - 1)
    elif damage == "gone":
        path.unlink()
    elif damage == "flipped":
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
    else:
        (path.parent / "manifest.json").write_text("{")
    again = make_tokens()
    assert again.built
    assert len(again.train) == 32


def test_rows_are_views_of_the_mapped_file(tmp_path: Path) -> None:
    path = tmp_path / "big.arrow"
    schema = pa.schema([("input_ids", pa.list_(pa.int32())), ("labels", pa.int32())])
    with pa.ipc.new_file(path, schema) as writer:
        for start in range(0, 20_000, 1_000):
            ids = [np.arange(i, i + 50, dtype=np.int32) for i in range(start, start + 1_000)]
            writer.write_batch(pa.record_batch([pa.array(ids), pa.array([1] * 1_000, pa.int32())], schema=schema))
    del writer, ids
    before = pa.total_allocated_bytes()
    split = TokenizedSplit(path)
    rows = split.rows([0, 999, 1_000, 19_999])
    assert [int(row["input_ids"][0]) for row in rows] == [0, 999, 1_000, 19_999]
    assert not rows[0]["input_ids"].flags.owndata
    assert not rows[0]["input_ids"].flags.writeable
    assert pa.total_allocated_bytes() - before < 100_000 < path.stat().st_size


def test_strings_and_lists_beside_the_tokens_come_back_as_they_are(tmp_path: Path) -> None:
    table = pa.table(
        {"input_ids": [[1], [2, 3]], "answers": [["a", "b"], []], "weights": [[0.5], [1.0, 2.0]], "id": ["x", None]}
    )
    with pa.ipc.new_file(tmp_path / "t.arrow", table.schema) as writer:
        writer.write_table(table)
    first, second = TokenizedSplit(tmp_path / "t.arrow").rows([0, 1])
    assert (first["answers"], first["id"], second["answers"], second["id"]) == (["a", "b"], "x", [], None)
    assert second["weights"].tolist() == [1.0, 2.0]


def test_a_cache_that_cannot_be_written_is_a_clear_error(
    make_tokens: Callable[..., TokenizedSplits], folder: Path
) -> None:
    (folder / "cache").write_text("a file where the folder should be")
    with pytest.raises(
        StorageError, match=r"cache/tokens/.*: cannot be written \(.*Not a directory.*\n.*move `storage`"
    ):
        make_tokens()


def test_a_full_disk_is_a_disk_full_error(make_tokens: Callable[..., TokenizedSplits], folder: Path) -> None:
    # /dev/full answers every write with "no space left", as a full disk does.
    from finesearch.data.build_once import build_once
    from finesearch.errors import DiskFullError

    def build(temporary: Path) -> None:
        with open("/dev/full", "wb", buffering=0) as file:
            file.write(b"x")

    with pytest.raises(DiskFullError, match="no space left on the disk"):
        build_once(folder / "cache" / "k", build, Path.exists)
    assert [path.name for path in (folder / "cache").iterdir()] == ["k.lock"]


def test_of_many_processes_one_tokenises_and_the_others_wait_for_it(folder: Path) -> None:
    running = start(folder, "many", 0.3)
    printed, _ = running.communicate(timeout=240)
    assert running.returncode == 0
    assert sorted(line.split()[1] for line in printed.splitlines()) == ["built", "found", "found", "found", "found"]
    # One call for each of the three splits, all by the builder.
    builder = next(line.split()[0] for line in printed.splitlines() if line.endswith("built"))
    assert calls(folder) == [builder] * 3


def test_a_killed_builder_blocks_nobody(folder: Path) -> None:
    builder = start(folder, "first", 300)
    waiting = start(folder, "second", 0)
    try:
        wait_until((folder / "asked").exists)
        time.sleep(1.0)
        assert waiting.poll() is None, "the second must wait for the first"
        assert calls(folder) == [str(builder.pid)]
        builder.send_signal(signal.SIGKILL)
        printed, _ = waiting.communicate(timeout=240)
    finally:
        for process in (builder, waiting):
            process.kill()
            process.wait()
    assert printed == f"{waiting.pid} built\n"
    left = [path.name for path in (folder / "cache" / "tokens").iterdir()]
    assert len(left) == 2
    assert not [name for name in left if "building" in name]
