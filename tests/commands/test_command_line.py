"""Bad input, by the command that a user types: a clear error, exit code 2, and nothing started or written."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from clusters import environment
from finesearch.cli import main
from plans import tiny_plan, write_sentiment
from tiny_models import write_tiny_model


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    write_tiny_model(tmp_path / "model")
    write_sentiment(tmp_path, rows=60)
    (tmp_path / "tiny.yaml").write_text(tiny_plan())
    monkeypatch.chdir(tmp_path)
    return tmp_path


def refused(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 2) -> str:
    assert main(["search", "tiny.yaml", "--dry-run", *arguments]) == code
    assert not Path("runs").exists()
    said = capsys.readouterr()
    assert said.out == ""
    return said.err


def test_a_dry_run_says_what_would_happen_and_writes_nothing(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = {path for path in folder.rglob("*") if path.is_file()}
    assert main(["search", "tiny.yaml", "--dry-run"]) == 0
    said = capsys.readouterr().out
    for part in (
        "4 layers",
        "train 60, validation 20, test 20 rows",
        "labels: negative, positive",
        "  memory   a worker's largest trial in GB, a forecast",
        "head_only ",
        "Nothing was started.",
    ):
        assert part in said
    assert {path for path in folder.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("space.learning_rte=1e-4", "learning_rate"),
        ("budget.trials=many", "budget.trials"),
        ("space.learning_rate={min: 1e-2, max: 1e-4, log: true}", "learning_rate"),
        ("space.learning_rate={min: 0.0, max: 1e-2, log: true}", "learning_rate"),
        ("space.adaptation={one_of: {loro: {}}}", "lora"),
        ("task.data.train=gone.csv", "gone.csv"),
        ("task.columns.text=sentense", "sentence"),
        ("task.model=nowhere-at-all", "nowhere-at-all"),
        ("space.adaptation={one_of: {freeze_bottom: {layers: {min: 1, max: 9}}}}", "4"),
        ("search.sampler=cmaes", "cmaes"),
    ],
)
def test_a_mistake_in_the_plan_is_named(
    folder: Path, capsys: pytest.CaptureFixture[str], change: str, said: str
) -> None:
    assert said in refused(capsys, "--set", change)


def rewrite(path: Path, rows: list[tuple[str, object]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("sentence", "label"), *rows])


def test_a_label_that_only_test_has_is_named_with_file_and_row(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rewrite(folder / "test.csv", [("a fine film", "positive"), ("a film", "neutral")])
    said = refused(capsys)
    assert "test.csv, row 2" in said
    assert "neutral" in said


def test_an_empty_split_is_named(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rewrite(folder / "validation.csv", [])
    assert "validation.csv" in refused(capsys)


def test_labels_that_are_fractions_are_refused(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for split in ("train", "validation", "test"):
        rewrite(folder / f"{split}.csv", [("a film", 0.25 * (n % 4) + 0.1) for n in range(40)])
    assert "label" in refused(capsys)


def test_a_model_folder_without_weights_is_refused(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "model" / "model.safetensors").unlink()
    assert "weights" in refused(capsys)


def test_a_model_that_asks_for_code_of_its_own_is_refused(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = folder / "model" / "config.json"
    config = json.loads(path.read_text())
    config |= {"model_type": "odd", "auto_map": {"AutoModel": "modeling_odd.Odd"}}
    path.write_text(json.dumps(config))
    assert "asks to run code of its own" in refused(capsys)


def test_storage_of_another_kind_is_refused(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wanted = "expected a folder, file://, s3:// or gs://, got ftp://host/runs"
    assert wanted in refused(capsys, "--storage", "ftp://host/runs")


def test_a_disk_too_small_is_refused_before_anything_starts(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "budget.disk_gib allows 0.00 GiB" in refused(capsys, "--set", "budget.disk_gib=0.001", code=3)


def test_every_problem_of_a_plan_is_told_at_once(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = (
        tiny_plan()
        .replace("max_length: 32", "max_lenght: 32")
        .replace("trials: 4", "trials: 0")
        .replace("name: tiny", "name: 7")
    )
    (folder / "tiny.yaml").write_text(text)
    said = refused(capsys)
    for line in ("line 2", "line 8", "line 16"):
        assert f"tiny.yaml, {line}" in said


def test_a_dry_run_starts_no_ray(folder: Path) -> None:
    code = (
        "import sys; from finesearch.cli import main; code = main(sys.argv[1:]);"
        "print('ray' in sys.modules); sys.exit(code)"
    )
    command = [sys.executable, "-c", code, "search", "tiny.yaml", "--dry-run"]
    done = subprocess.run(command, cwd=folder, env=environment(), capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "False"


def test_the_schema_is_json_that_names_every_section() -> None:
    command = [sys.executable, "-m", "finesearch.cli", "schema"]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, check=True, timeout=100)
    sections = {"name", "task", "space", "training", "search", "budget", "report"}
    assert sections <= set(json.loads(done.stdout)["properties"])


@pytest.mark.parametrize("arguments", [["report", "nowhere"], ["export", "nowhere", "out"]])
def test_a_command_on_no_run_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    assert "this is no run folder" in capsys.readouterr().err
    assert os.listdir(tmp_path) == []
