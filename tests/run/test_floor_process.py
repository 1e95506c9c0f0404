"""Floors are scored in a process beside the trials, once, and within a tenth of the budget."""

from __future__ import annotations

import json
import time
from pathlib import Path

import psutil
import pytest

from finesearch.commands.rebuild_report import rebuild_report
from finesearch.commands.run_search import run_search
from finesearch.plan import Plan, parse_plan
from finesearch.run.floor_scores.floor_process import FloorProcess, sample_of_train
from finesearch.run.open_search import SearchRequest
from finesearch.run.preflight import Preflight, run_preflight
from finesearch.run.score_cache import ScoreCache
from plans import tagged_row, tiny_plan, write_json_lines, write_sentiment
from tiny_models import write_tiny_model

LONG_ENOUGH_S = 100.0


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run folder, in a home with the data and the model of the tiny plan."""
    write_tiny_model(tmp_path / "model")
    write_sentiment(tmp_path)
    (tmp_path / "runs" / "tiny").mkdir(parents=True)
    return tmp_path / "runs" / "tiny"


def read(run: Path, text: str) -> tuple[Plan, Preflight]:
    plan = parse_plan(f"base: {run.parents[1]}\n{text}")
    (run / "plan.yaml").write_text(plan.to_yaml(), encoding="utf-8")
    return plan, run_preflight(plan, run / "cache")


def scored(plan: Plan, preflight: Preflight, run: Path) -> FloorProcess:
    process = FloorProcess(plan, preflight, run / "scores")
    process.start()
    process.finish(search_s=10 * LONG_ENOUGH_S)
    return process


def test_a_floor_is_scored_once_and_stands_in_the_report(run: Path, tmp_path: Path) -> None:
    plan, preflight = read(run, tiny_plan(baselines="[majority, floors]"))
    process = FloorProcess(plan, preflight, run / "scores")
    assert process.missing == ("tfidf",)
    scored(plan, preflight, run)
    written = (run / "scores" / "tfidf.json").stat().st_mtime_ns
    again = scored(plan, preflight, run)
    assert again.missing == ()
    assert (run / "scores" / "tfidf.json").stat().st_mtime_ns == written, "it was not computed again"
    rebuild_report(run, tmp_path / "reports")
    report = json.loads((tmp_path / "reports" / "tiny" / "report.json").read_text())
    row = next(row for row in report["baselines"] if row["name"] == "tfidf")
    assert row["error"] is None
    assert row["test"] > 0.9, "the sentences are told apart by single words"
    assert row["test_interval"][0] <= row["test"] <= row["test_interval"][1]
    assert set(row["parameters"]) == {"C"}
    assert row["seconds"] > 0
    assert row["revalidated"] == row["validation"] == row["validation_metrics"]["accuracy"]


def test_a_floor_that_takes_more_than_a_tenth_of_the_budget_is_cut_off_and_says_so(run: Path, tmp_path: Path) -> None:
    text = tiny_plan(baselines="[tfidf]").replace("budget: {trials: 4}", "budget: {trials: 4, hours: 1.0e-5}")
    plan, preflight = read(run, text)
    assert scored(plan, preflight, run).missing == (), "it is not tried again with the same budget"
    score = ScoreCache(run / "scores").get("tfidf", None, None)
    assert score is not None
    assert score.error == "it was cut off: floors may take a tenth of budget.hours, here 0 s"
    rebuild_report(run, tmp_path / "reports")
    assert score.error in (tmp_path / "reports" / "tiny" / "report.md").read_text()
    more, _ = read(run, text.replace("1.0e-5", "1.0"))
    assert FloorProcess(more, preflight, run / "scores").missing == ("tfidf",), "with more time it is scored"


@pytest.mark.parametrize(
    ("library", "why", "tried_again"),
    [
        ("raise ValueError('no field')", "it could not be computed: ValueError: no field", ()),
        (
            "import os, signal; os.kill(os.getpid(), signal.SIGKILL)",
            "it could not be computed: its process was ended by SIGKILL, as where memory runs out",
            ("crf",),
        ),
    ],
    ids=["failing", "killed"],
)
def test_a_floor_that_fails_says_why_in_its_row_and_those_after_it_are_scored(
    library: str, why: str, tried_again: tuple[str, ...], run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Of two libraries with the same name, the process imports this one.
    (tmp_path / "libraries").mkdir()
    (tmp_path / "libraries" / "sklearn_crfsuite.py").write_text(library)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "libraries"))
    data = write_json_lines(tmp_path, "tags", tagged_row)
    text = tiny_plan(baselines="[crf, dictionary]").replace("text-classification", "token-classification")
    text = text.replace("{train: train.csv, validation: validation.csv, test: test.csv}", data)
    text = text.replace("{text: sentence, label: label}", "{tokens: tokens, tags: tags}")
    plan, preflight = read(run, text)
    assert scored(plan, preflight, run).missing == tried_again
    failed, after = (ScoreCache(run / "scores").get(name, None, None) for name in ("crf", "dictionary"))
    assert failed is not None
    assert after is not None
    assert (failed.error, after.error) == (why, None)
    assert after.test["f1"] > 0.9


def test_a_search_that_fails_before_its_trials_leaves_no_floor_process(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "no address")
    monkeypatch.setenv("RAY_TRAIN_ENABLE_PREEMPTION_WATCHER", "0")  # else it stays as that address has it
    text = tiny_plan(baselines="[floors]").replace("batch_size: 16", "batch_size: 16, precision: fp32")
    plan = parse_plan(f"base: {tmp_path}\nstorage: {tmp_path / 'storage'}\n{text}")
    with pytest.raises(ValueError, match="Invalid address format: no address"):
        run_search(SearchRequest(plan, tmp_path / "reports"))
    commands = [" ".join(child.cmdline()) for child in psutil.Process().children(recursive=True)]
    assert [command for command in commands if "score_floors" in command] == []


def test_closing_ends_the_process_at_once(run: Path) -> None:
    plan, preflight = read(run, tiny_plan(baselines="[floors]"))
    process = FloorProcess(plan, preflight, run / "scores")
    process.start()
    began = time.monotonic()
    process.close()
    assert time.monotonic() - began < LONG_ENOUGH_S / 10
    assert process.missing == ("tfidf",)
    FloorProcess(plan, preflight, run / "scores").close()


def test_floors_learn_from_a_part_of_many_rows_the_same_for_a_seed(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, preflight = read(run, tiny_plan(baselines="[floors]"))
    splits = preflight.splits
    assert sample_of_train(splits, seed=0) is splits
    monkeypatch.setattr("finesearch.run.floor_scores.floor_process.MOST_TRAIN_ROWS", 5)
    first, again, other = (sample_of_train(splits, seed).plain_rows("train") for seed in (0, 0, 1))
    assert len(first["sentence"]) == 5
    assert first == again != other
    assert set(first["sentence"]) <= set(splits.plain_rows("train")["sentence"])
