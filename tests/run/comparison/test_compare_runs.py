"""Runs over the same test rows are compared row by row; others are refused with what differs."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from finesearch.cli import main
from finesearch.plan import Recipe
from finesearch.training.checkpointing.checkpoint_record import FILE, CheckpointRecord
from finesearch.training.model.base_reference import BaseReference
from plans import tiny_plan

TRUE = [0, 1] * 50


def write_run(folder: Path, answers: list[int], labels: tuple[str, ...] = ("bad", "good"), **reported: Any) -> Path:
    """The files of a run whose best checkpoint gave these answers on test."""
    right = float(np.mean([given == true for given, true in zip(answers, TRUE, strict=True)]))
    row = {"name": "trial 3", "trial": 3, "test": right, "trainable_parameters": 66}
    report = {
        "name": folder.name, "metric": "accuracy", "goal": "max", "verdict": {}, "baselines": [], "ranked": [row],
        "cost": {"seconds": 61.0}, "warnings": [], "reproduction": {"data_fingerprints": {"test": "ab" * 32}},
        "plan": tiny_plan(), **reported,
    }  # fmt: skip
    score = {
        "name": "trial-0003", "checkpoint": "c", "validation": {}, "test": {"accuracy": right}, "predictions": answers,
        "references": TRUE,
    }  # fmt: skip
    record = CheckpointRecord(
        base=BaseReference(model="m", revision=None, folder="m", sha256="0"), kind="text-classification",
        facts={"kind": "text-classification", "label_names": labels}, trial=3, attempt=1, seed=0, recipe=Recipe(),
        metric="accuracy", goal="max", history=(), trained=(), trainable_parameters=66, total_parameters=99,
        zero_stage=0, workers=1, precision="fp32", versions={},
    )  # fmt: skip
    (folder / "scores").mkdir(parents=True)
    (folder / "checkpoints" / "c").mkdir(parents=True)
    (folder / "checkpoints" / "c" / FILE).write_bytes(record.content)
    (folder / "scores" / "trial-0003.json").write_text(json.dumps(score))
    (folder / "ranked.json").write_text(json.dumps([{"rank": 1, "checkpoint": "checkpoints/c"}]))
    (folder / "report.json").write_text(json.dumps(report))
    return folder


def wrong_at(*places: int) -> list[int]:
    return [1 - true if place in places else true for place, true in enumerate(TRUE)]


def test_gains_are_paired_row_by_row(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one = write_run(tmp_path / "one", wrong_at(*range(30)))
    two = write_run(tmp_path / "two", wrong_at(*range(20)))
    same = write_run(tmp_path / "same", wrong_at(*range(30, 60)))
    assert main(["compare", str(one), str(two), str(same), "--json"]) == 0
    first, second, third = json.loads(capsys.readouterr().out)
    assert (first["test"], first["gain"], first["rows"]) == (0.7, None, 100)
    assert second["gain"] == pytest.approx(0.1)
    # The ten rows that two has right and one has not: the standard error of their share is .03.
    low, high = second["gain_interval"]
    assert 0.02 < low < 0.07
    assert 0.13 < high < 0.18
    # Equal scores on other rows: sixty rows differ, and the difference is uncertain.
    low, high = third["gain_interval"]
    assert third["gain"] == pytest.approx(0.0)
    assert low < -0.1
    assert high > 0.1
    assert main(["compare", str(one), str(two), str(same)]) == 0
    told = capsys.readouterr().out.splitlines()
    assert told[1].split()[:3] == [str(one), "trial", "3"]
    assert "may be chance" not in told[2]
    assert "+0.10 (+0.0" in told[2]
    assert "(may be chance)" in told[3]
    assert told[4] == "100 test rows, the same in all; differences are paired."


@pytest.mark.parametrize(
    ("other", "expected"),
    [
        ({"reproduction": {"data_fingerprints": {"test": "cd" * 32}}}, "the same test rows (SHA-256) as in"),
        ({"metric": "mcc"}, "the same task.metric as in"),
        ({"labels": ("good", "bad")}, "the same labels as in"),
    ],
)
def test_runs_that_cannot_be_compared_are_refused(
    other: dict[str, Any], expected: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one, two = write_run(tmp_path / "one", TRUE), write_run(tmp_path / "two", TRUE, **other)
    assert main(["compare", str(one), str(two)]) == 2
    told = capsys.readouterr().err
    assert expected in told
    assert str(two) in told


def test_a_run_of_an_older_version_and_a_lost_score_say_what_to_do(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one, two = write_run(tmp_path / "one", TRUE), write_run(tmp_path / "two", TRUE)
    assert main(["compare", str(one)]) == 2
    assert "expected at least two runs" in capsys.readouterr().err
    assert main(["compare", str(one), str(two), "--rank", "2"]) == 2
    assert "--rank 2" in capsys.readouterr().err
    (two / "scores" / "trial-0003.json").unlink()
    assert main(["compare", str(one), str(two)]) == 2
    assert "trial-0003.json: is gone. Repeat the command of the search" in capsys.readouterr().err
    (two / "report.json").unlink()
    assert main(["compare", str(one), str(two)]) == 2
    assert "an older version ranked it, without report.json" in capsys.readouterr().err
