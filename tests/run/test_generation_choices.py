"""Generation settings that are chosen once training is over: by the front door, on a search that has ended."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from clusters import environment, ray_folder
from paths import ROOT
from tiny_writers import word_pairs, write_tiny_writer

pytestmark = pytest.mark.ray

PLAN = """\
name: words
task:
  kind: translation
  model: model
  data: {train: train.jsonl, validation: validation.jsonl, test: test.jsonl}
  columns: {source: en, target: de}
  metric: chrf
  max_length: 24
  max_target_length: 12
  generation: {max_new_tokens: 8, batch_size: 8}
space:
  learning_rate: {min: 1e-3, max: 1e-2, log: true}
training: {epochs: 1, batch_size: 16}
search: {pruner: none, startup_trials: 1}
budget: {trials: 2}
report: {top: 2, baselines: [majority]}
"""


def search(folder: Path, *arguments: str) -> str:
    command = [sys.executable, str(ROOT / "platform" / "search.py"), "words.yaml", *arguments]
    with ray_folder() as ray:
        done = subprocess.run(
            command,
            cwd=folder,
            env=environment() | {"RAY_TMPDIR": str(ray)},
            text=True,
            capture_output=True,
            timeout=500,
        )
    assert done.returncode == 0, done.stdout + done.stderr[-4000:]
    return done.stdout


def report(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "reports" / "words" / "report.json").read_text(encoding="utf-8"))


@pytest.mark.slow
def test_settings_are_chosen_on_validation_without_training_again(tmp_path: Path) -> None:
    write_tiny_writer(tmp_path / "model", "t5")
    for seed, (split, rows) in enumerate((("train", 48), ("validation", 20), ("test", 20))):
        pairs = zip(*word_pairs(rows, seed), strict=True)
        lines = [json.dumps({"en": source, "de": target}) for source, target in pairs]
        (tmp_path / f"{split}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    (tmp_path / "words.yaml").write_text(PLAN, encoding="utf-8")
    search(tmp_path)
    before = report(tmp_path)
    assert {row["chosen_validation"] for row in before["ranked"]} == {None}
    steps = {path: os.stat(path).st_mtime_ns for path in (tmp_path / "runs").rglob("model.safetensors")}

    # On a search that has ended: the checkpoints are scored again, and nothing is trained.
    choices = "report.generation={beams: [1, 3], no_repeat_ngram_size: [0, 1], max_new_tokens: [2, 8]}"
    search(tmp_path, "--set", choices)
    after = report(tmp_path)
    assert {path: os.stat(path).st_mtime_ns for path in (tmp_path / "runs").rglob("model.safetensors")} == steps
    said = {row["trial"]: row for row in before["ranked"]}
    for row in after["ranked"]:
        assert row["validation"] == row["revalidated"] == said[row["trial"]]["validation"]
        assert row["chosen_validation"] >= row["validation"]
        assert row["generation"].keys() == {"beams", "no_repeat_ngram_size", "max_new_tokens"}
    assert [row["chosen_validation"] for row in after["ranked"]] == sorted(
        (row["chosen_validation"] for row in after["ranked"]), reverse=True
    )
    # These models repeat words, which costs chrF: some setting is better than the plan's own.
    assert any(row["chosen_validation"] > row["validation"] for row in after["ranked"])
    text = (tmp_path / "reports" / "words" / "report.md").read_text(encoding="utf-8")
    assert "generation settings that were chosen" in text
    assert "generation.beams" in text

    # What is exported writes as it was scored.
    command = [sys.executable, "-m", "finesearch.cli", "export", "runs/words", "out"]
    subprocess.run(command, cwd=tmp_path, env=environment(), check=True, capture_output=True)
    written = json.loads((tmp_path / "out" / "generation_config.json").read_text(encoding="utf-8"))
    chosen = after["ranked"][0]["generation"]
    assert written["max_new_tokens"] == chosen["max_new_tokens"]
    assert written["num_beams"] == chosen["beams"]

    # The same command again finds every score and starts nothing.
    assert "starting worker groups" not in search(tmp_path, "--set", choices)
    assert report(tmp_path)["ranked"] == after["ranked"]


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        ("{settings: 3}", "report.generation: expected settings to choose from, got none"),
        ("{beams: [0]}", "report.generation.beams.0: expected a whole number of at least 1, got 0"),
        ("{beam: [2]}", "unknown key 'beam' in report.generation"),
    ],
)
def test_choices_that_are_none_are_refused(choices: str, message: str) -> None:
    from finesearch.errors import PlanError
    from finesearch.plan import parse_plan

    with pytest.raises(PlanError) as caught:
        parse_plan(PLAN, overrides=[f"report.generation={choices}"])
    assert message in str(caught.value)


def test_what_is_written_cannot_be_chosen_by_a_metric_that_does_not_look_at_it() -> None:
    from finesearch.errors import PlanError
    from finesearch.plan import parse_plan

    task = "{kind: dialogue, model: m, data: {train: a.jsonl}, columns: {messages: m}}"
    plan = f"name: talk\ntask: {task}\nspace: {{}}\n"
    with pytest.raises(PlanError, match="perplexity does not look at what is written"):
        parse_plan(plan, overrides=["report.generation={beams: [2]}"])
    parse_plan(plan, overrides=["report.generation={beams: [2]}", "task.metric=bleu"])


def test_only_tasks_that_generate_have_settings_to_choose() -> None:
    from finesearch.errors import PlanError
    from finesearch.plan import parse_plan

    plan = PLAN.replace("kind: translation", "kind: text-classification").replace(
        "source: en, target: de", "text: en, label: de"
    )
    plan = "\n".join(line for line in plan.splitlines() if "max_target" not in line and "metric" not in line)
    plan = plan.replace("  generation: {max_new_tokens: 8, batch_size: 8}\n", "")
    with pytest.raises(PlanError, match="report.generation: text-classification generates no text"):
        parse_plan(plan, overrides=["report.generation={beams: [2]}"])
