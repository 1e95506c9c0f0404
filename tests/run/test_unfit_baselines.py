"""A baseline that cannot be run with a task is left out of the search, and its row in the report says why."""

from __future__ import annotations

import csv
import json
from pathlib import Path

from finesearch.commands.rebuild_report import rebuild_report
from finesearch.plan import parse_plan
from finesearch.run.open_search import open_search_controller
from finesearch.run.preflight import run_preflight
from finesearch.tuning.messages import TrialFailed
from tiny_models import sentences, write_tiny_model

PLAN = """
name: numbers
base: {home}
task:
  kind: text-classification
  form: regression
  model: model
  data: {{train: train.csv, validation: validation.csv, test: test.csv}}
  columns: {{text: text, label: label}}
  max_length: 32
space: {{learning_rate: [1e-4, 1e-3]}}
search: {{startup_trials: 1, pruner: none}}
budget: {{trials: 2}}
report: {{baselines: [majority, zero_shot, ordinary]}}
"""
WHY = "adaptation.zero_shot: text-classification, form regression has no answers to choose from"


def test_an_unfit_baseline_is_not_run_and_says_why_in_the_report(tmp_path: Path) -> None:
    home, run = tmp_path / "home", tmp_path / "runs" / "numbers"
    write_tiny_model(home / "model")
    for seed, split in enumerate(("train", "validation", "test")):
        texts, _ = sentences(10, seed)
        with (home / f"{split}.csv").open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([("text", "label"), *((text, len(text)) for text in texts)])
    plan = parse_plan(PLAN.format(home=home))
    run.mkdir(parents=True)
    (run / "plan.yaml").write_text(plan.to_yaml(), encoding="utf-8")
    preflight = run_preflight(plan, run / "cache")
    assert list(preflight.unsupported_baselines) == ["zero_shot"]
    controller = open_search_controller(plan, run, unsupported_baselines=preflight.unsupported_baselines)
    job = controller.next_job("t")
    assert job is not None
    assert (job.study, job.recipe.adaptation) == ("baselines", "full")
    assert list(controller.baseline_trials) == ["ordinary"]
    controller.trial_ended("t", TrialFailed(reason="it broke", error="TrialError"), False)
    rebuild_report(run, tmp_path / "reports")
    said = json.loads((tmp_path / "reports" / "numbers" / "report.json").read_text())
    rows = {row["name"]: row for row in said["baselines"]}
    assert rows["zero_shot"]["error"].startswith(WHY)
    assert rows["zero_shot"]["test"] is None
    assert WHY in (tmp_path / "reports" / "numbers" / "report.md").read_text()
    assert WHY in (tmp_path / "reports" / "numbers" / "report.html").read_text()
