"""A file of a run that holds something else is named, with what to do; it never ends in a traceback."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from finesearch.cli import main
from finesearch.errors import StorageError
from finesearch.run.identity.begun_plan import read_begun_plan, read_choices
from finesearch.run.ranked_json import find_ranked_checkpoint
from finesearch.run.run_storage import RunStorage
from finesearch.run.score_cache import CheckpointScore, ScoreCache

OTHERS = [b"", b"{", b"[1]", b"null", b"\xff\xfe", b"[" * 100_000, b'{"notes": 3}', b"9" * 5_000]
SCORE = CheckpointScore("rank-1", "c", {"f1": 0.5}, {"f1": float("nan")}, [1], ["b"], settings={"k": 2})


@pytest.mark.parametrize("content", OTHERS)
def test_every_file_that_holds_something_else_is_named(tmp_path: Path, content: bytes) -> None:
    for name in ("choices.json", "study.json", "ranked.json", "rank-1.json"):
        (tmp_path / name).write_bytes(content)
    storage = RunStorage("tiny", tmp_path)
    for name, read in {
        "choices.json": lambda: read_choices(storage),
        "study.json": storage._study_name,
        "ranked.json": lambda: find_ranked_checkpoint(tmp_path, 1),
        "rank-1.json": lambda: ScoreCache(tmp_path).get("rank-1", None, None),
    }.items():
        with pytest.raises(StorageError, match=rf"{name}: expected .* got something else: .* Restore the file from"):
            read()


def test_a_plan_of_bytes_is_named(tmp_path: Path) -> None:
    (tmp_path / "plan.yaml").write_bytes(b"name: \xff")
    with pytest.raises(StorageError, match=r"plan.yaml: expected the plan that this run began with"):
        read_begun_plan(RunStorage("tiny", tmp_path))


def test_scores_and_choices_are_read_as_they_were_written(tmp_path: Path) -> None:
    ScoreCache(tmp_path).put(SCORE)
    found = ScoreCache(tmp_path).get("rank-1", "c", None)
    assert found is not None
    assert repr(found) == repr(SCORE)
    assert ScoreCache(tmp_path).get("rank-1", "other", None) is None
    ScoreCache(tmp_path).put(replace(SCORE, name="rank-2"))
    (tmp_path / "choices.json").write_text('{"notes": ["a"], "bf16_nodes": []}')
    assert read_choices(RunStorage("tiny", tmp_path)).notes == ("a",)


def test_an_export_onto_a_file_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "ranked.json").write_text(json.dumps([{"rank": 1, "checkpoint": "checkpoints/x"}]))
    (tmp_path / "mine").write_text("mine")
    assert main(["export", str(tmp_path), str(tmp_path / "mine")]) == 2
    assert "mine: is a file. Expected a new folder; nothing was overwritten." in capsys.readouterr().err
    assert (tmp_path / "mine").read_text() == "mine"
