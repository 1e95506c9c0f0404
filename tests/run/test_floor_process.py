"""Floors are scored in a process beside the trials, once, and within a tenth of the budget."""

from __future__ import annotations

import csv
import json
import time
from pathlib import Path

import pytest

from finesearch.commands.rebuild_report import rebuild_report
from finesearch.plan import Plan, parse_plan
from finesearch.run.floor_scores.floor_process import FloorProcess, sample_of_train
from finesearch.run.preflight import Preflight, run_preflight
from finesearch.run.score_cache import ScoreCache
from plans import tiny_plan, write_sentiment
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


def test_a_floor_that_fails_says_why_in_its_row(run: Path, tmp_path: Path) -> None:
    for split in ("train", "validation", "test"):
        with (tmp_path / f"{split}.csv").open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([("sentence", "label"), *(("?!", name) for name in ("pos", "neg") * 3)])
    plan, preflight = read(run, tiny_plan(baselines="[tfidf]"))
    assert scored(plan, preflight, run).missing == ()
    score = ScoreCache(run / "scores").get("tfidf", None, None)
    assert score is not None
    assert score.error is not None
    assert score.error.startswith("it could not be computed: ValueError: empty vocabulary")


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
