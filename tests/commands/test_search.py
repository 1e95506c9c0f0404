"""The main job, end to end, by its front door: a plan file goes in, a verified report comes out, again after any
end."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from huggingface_hub import ModelCard

from clusters import environment, processes_of, ray_folder
from paths import ROOT
from plans import tagged_row, tiny_plan, write_json_lines, write_sentiment
from tiny_models import write_tiny_model

pytestmark = pytest.mark.ray

SEARCH = ROOT / "platform" / "search.py"


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a tiny model, rows and a plan. Its name holds what URLs, YAML, globs and formats read as signs."""
    folder = tmp_path_factory.mktemp("bench") / "a?b%41 {c} [d] #e"
    folder.mkdir()
    write_tiny_model(folder / "model")
    write_sentiment(folder)
    (folder / "tiny.yaml").write_text(tiny_plan())
    return folder


@pytest.fixture(autouse=True)
def own_ray(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Every driver of a test starts a Ray whose files, and so whose processes, are told apart from all others."""
    with ray_folder() as folder:
        monkeypatch.setenv("RAY_TMPDIR", str(folder))
        yield folder


def front_door(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, str(SEARCH), *arguments]
    return subprocess.Popen(
        command, cwd=folder, env=environment(), text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def search(folder: Path, *arguments: str, expect: int = 0) -> tuple[str, str]:
    with front_door(folder, *arguments) as driver:
        output, errors = driver.communicate(timeout=500)
    assert driver.returncode == expect, output + errors[-4000:]
    return output, errors


def wait_until(condition: Any, driver: subprocess.Popen[str], timeout_s: float = 300) -> None:
    end = time.monotonic() + timeout_s
    while not condition():
        assert driver.poll() is None, driver.communicate()
        assert time.monotonic() < end, "the search does not get anywhere"
        time.sleep(0.05)


@pytest.fixture(scope="module")
def finished(bench: Path) -> Path:
    """The same folder after a whole search."""
    output, errors = search(bench, "tiny.yaml")
    assert "report in" in output
    assert "Traceback" not in errors
    return bench


def report(folder: Path, name: str = "tiny") -> dict[str, Any]:
    return json.loads((folder / "reports" / name / "report.json").read_text(encoding="utf-8"))


def test_the_report_ranks_verified_checkpoints_beside_baselines(finished: Path) -> None:
    said = report(finished)
    assert not said["partial"]
    assert [row["rank"] for row in said["ranked"]] == [1, 2]
    needed = {"rank", "trial", "validation", "test", "parameters", "trainable_parameters", "seconds", "checkpoint"}
    for row in said["ranked"]:
        assert needed <= set(row)
        assert row["validation"] == pytest.approx(row["revalidated"], abs=1e-9)
        low, high = row["test_interval"]
        assert low <= row["test"] <= high
        assert (Path(row["checkpoint"]) / "model.safetensors").is_file()
    assert {row["name"] for row in said["baselines"]} == {"majority", "ordinary"}
    assert {row["trial"] for row in said["ranked"]} | {row["trial"] for row in said["unranked"]} == set(range(4))
    assert {"trial", "state", "reason"} <= set(said["unranked"][0])
    assert said["cost"]["trials"]["complete"] == 4
    (precision,) = re.findall(r"precision auto: (fp32|bf16); this machine trains", "\n".join(said["notes"]))
    assert f"precision: {precision}\n" in (finished / "runs" / "tiny" / "plan.yaml").read_text(encoding="utf-8")
    for name in ("report.html", "report.md"):
        assert "ordinary" in (finished / "reports" / "tiny" / name).read_text(encoding="utf-8")
    assert pq.read_table(finished / "reports" / "tiny" / "trials.parquet").num_rows == 4


def test_only_ranked_checkpoints_and_the_baseline_stay(finished: Path) -> None:
    kept = {path.name for path in (finished / "runs" / "tiny" / "checkpoints").iterdir()}
    assert kept == {f"trial-{row['trial']:04d}" for row in report(finished)["ranked"]} | {"baseline-0"}
    assert not (finished / "runs" / "tiny" / "scratch").exists()


def test_a_finished_search_is_told_again_without_ray(finished: Path) -> None:
    before = report(finished)
    output, _ = search(finished, "tiny.yaml", "--reports", "again")
    assert "starting worker groups" not in output
    after = json.loads((finished / "again" / "tiny" / "report.json").read_text(encoding="utf-8"))
    assert after["ranked"] == before["ranked"]
    assert after["baselines"] == before["baselines"]


def test_the_report_command_writes_the_same_report(finished: Path) -> None:
    command = [sys.executable, "-m", "finesearch.cli", "report", "runs/tiny", "--reports", "rewritten"]
    subprocess.run(command, cwd=finished, env=environment(), check=True, timeout=200)
    rewritten = json.loads((finished / "rewritten" / "tiny" / "report.json").read_text(encoding="utf-8"))
    assert rewritten["ranked"] == report(finished)["ranked"]
    assert not rewritten["partial"]


def test_the_winner_exports_to_plain_transformers_and_predicts_the_same(finished: Path) -> None:
    command = [sys.executable, "-m", "finesearch.cli", "export", "runs/tiny", "winner", "--rank", "1"]
    subprocess.run(command, cwd=finished, env=environment(), check=True, timeout=200)
    script = """
import csv, json, sys, torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer
model = AutoModelForSequenceClassification.from_pretrained("winner").eval()
tokenizer = AutoTokenizer.from_pretrained("winner")
rows = list(csv.DictReader(open("test.csv", encoding="utf-8")))
with torch.inference_mode():
    inputs = tokenizer([r["sentence"] for r in rows], padding=True, truncation=True, max_length=32, return_tensors="pt")
    predicted = model(**inputs).logits.argmax(-1).tolist()
right = sum(model.config.id2label[p] == r["label"] for p, r in zip(predicted, rows))
print(json.dumps({"accuracy": right / len(rows), "finesearch": "finesearch" in sys.modules}))
"""
    plain = {key: value for key, value in environment().items() if key != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=finished, env=plain, capture_output=True, text=True, check=True
    )
    said = json.loads(done.stdout.splitlines()[-1])
    assert said["accuracy"] == pytest.approx(report(finished)["ranked"][0]["test"])
    assert said["finesearch"] is False
    card = ModelCard.load(finished / "winner" / "README.md")
    scores = {result.metric_type: result.metric_value for result in card.data.eval_results}
    assert scores["accuracy"] == pytest.approx(said["accuracy"])
    assert report(finished)["verdict"]["sentence"] in card.text
    (finished / "probe").touch()
    rights = {path.stat().st_mode for path in (finished / "winner").iterdir()}
    assert rights == {(finished / "probe").stat().st_mode}, "who may read the folder may read its files"


def test_a_run_compared_with_its_copy_gains_nothing(finished: Path) -> None:
    shutil.copytree(finished / "runs" / "tiny", finished / "runs" / "copy")
    command = [sys.executable, "-m", "finesearch.cli", "compare", "runs/tiny", "runs/copy", "--json"]
    done = subprocess.run(command, cwd=finished, env=environment(), check=True, timeout=200, stdout=subprocess.PIPE)
    first, second = json.loads(done.stdout)
    assert first["test"] == second["test"] == report(finished)["ranked"][0]["test"]
    assert second["gain_interval"] == [0.0, 0.0]
    index = (finished / "reports" / "index.html").read_text(encoding="utf-8")
    assert 'href="tiny/report.html"' in index


def test_another_plan_under_the_same_name_is_refused_and_named(finished: Path) -> None:
    _, errors = search(finished, "tiny.yaml", "--set", "training.epochs=3", "--set", "search.seed=7", expect=2)
    assert "this run was begun with another plan" in errors
    assert "training.epochs: 3, was 2" in errors
    assert "search.seed: 7, was 0" in errors


@pytest.mark.slow
def test_entities_are_searched_over_adapters_ranked_and_exported(bench: Path, tmp_path: Path) -> None:
    shutil.copytree(bench / "model", tmp_path / "model")
    data = write_json_lines(tmp_path, "tagged", tagged_row)
    (tmp_path / "entities.yaml").write_text(f"""
name: entities
task:
  kind: token-classification
  model: model
  data: {data}
  columns: {{tokens: tokens, tags: tags}}
  max_length: 32
space:
  learning_rate: {{min: 3e-3, max: 2e-2, log: true}}
  adaptation: {{one_of: {{full: {{}}, lora: {{rank: [4, 8], targets: [all_linear]}}, few_shot: {{examples: 12}}}}}}
training: {{epochs: 4, batch_size: 16}}
search:
  pruner: none
  startup_trials: 1
  first:
    - {{adaptation: full, learning_rate: 1e-2}}
    - {{adaptation: {{lora: {{rank: 8}}}}, learning_rate: 1e-2}}
    - {{adaptation: few_shot}}
budget: {{trials: 3}}
report: {{top: 3}}
""")
    search(tmp_path, "entities.yaml")
    said = report(tmp_path, "entities")
    assert {row["parameters"]["adaptation"] for row in said["ranked"]} == {"full", "lora", "few_shot"}
    none, few, many = sorted(row["trainable_parameters"] for row in said["ranked"])
    assert none == 0 < few < many / 2
    baselines = {row["name"]: row["test"] for row in said["baselines"]}
    assert baselines.keys() == {"majority", "dictionary", "crf", "zero_shot", "strong", "ordinary"}
    assert baselines["majority"] == 0.0
    assert baselines["zero_shot"] is not None
    for row in said["ranked"]:
        assert row["validation"] == pytest.approx(row["revalidated"], abs=1e-9)
        low, high = row["test_interval"]
        assert low <= row["test"] <= high
    assert said["ranked"][0]["test"] > 0.5
    rank = next(row["rank"] for row in said["ranked"] if row["parameters"]["adaptation"] == "lora")
    command = [
        sys.executable,
        "-m",
        "finesearch.cli",
        "export",
        "runs/entities",
        "out",
        "--adapter",
        "--rank",
        str(rank),
    ]
    subprocess.run(command, cwd=tmp_path, env=environment(), check=True, timeout=200)
    assert (tmp_path / "out" / "adapter_model.safetensors").is_file()


@pytest.mark.slow
def test_a_larger_budget_goes_on_with_the_same_run(finished: Path) -> None:
    folder = finished.with_name("larger")
    shutil.copytree(finished, folder, ignore=shutil.ignore_patterns("ray"))
    before = {row["trial"] for row in report(finished)["ranked"] + report(finished)["unranked"]}
    search(folder, "tiny.yaml", "--set", "budget.trials=5")
    after = report(folder)
    assert {row["trial"] for row in after["ranked"] + after["unranked"]} == before | {4}
    assert after["cost"]["resumes"] == 1


@pytest.mark.slow
def test_fresh_starts_over_and_sets_the_old_run_aside(finished: Path) -> None:
    folder = finished.with_name("fresh")
    shutil.copytree(finished, folder, ignore=shutil.ignore_patterns("ray"))
    search(folder, "tiny.yaml", "--fresh", "--set", "budget.trials=1", "--set", "report.baselines=[]")
    assert len(report(folder)["ranked"]) == 1
    assert (folder / "runs" / "tiny.old-1" / "study.db").is_file()


@pytest.mark.parametrize(
    ("sent", "code"), [(signal.SIGTERM, 143), pytest.param(signal.SIGINT, 130, marks=pytest.mark.slow)]
)
def test_a_signal_leaves_a_partial_report_and_the_same_command_goes_on_past_a_damaged_checkpoint(
    bench: Path, tmp_path: Path, own_ray: Path, sent: signal.Signals, code: int
) -> None:
    for name in ("tiny.yaml", "train.csv", "validation.csv", "test.csv"):
        shutil.copy(bench / name, tmp_path)
    shutil.copytree(bench / "model", tmp_path / "model")
    changes = (
        "training.epochs=45",
        "training.prefix_cache=off",
        "budget.trials=2",
        "report.top=3",
        "report.baselines=[majority]",
    )
    arguments = ["tiny.yaml", *(word for change in changes for word in ("--set", change))]
    checkpoints = tmp_path / "runs" / "tiny" / "checkpoints"
    with front_door(tmp_path, *arguments) as driver:
        # Long enough for two: the best, and one to go on from.
        wait_until(lambda: len(list(checkpoints.glob("trial-0001/step-*/manifest.json"))) > 1, driver)
        at = time.time()
        driver.send_signal(sent)
        output, errors = driver.communicate(timeout=60)
    assert driver.returncode == code, output + errors
    assert f"interrupted (exit {code})" in output
    said = report(tmp_path)
    assert said["partial"]
    assert "Traceback" not in errors
    written = (tmp_path / "reports" / "tiny" / "report.html").stat().st_mtime
    print(f"partial report {written - at:.2f} s after the signal, out after {time.time() - at:.2f} s")
    assert written >= at
    end = time.monotonic() + 30
    while left := processes_of(own_ray):
        assert time.monotonic() < end, f"left behind: {left}"
        time.sleep(0.2)
    # As if the power cut had damaged what was written last: the trial goes on from the checkpoint before it.
    newest = max(checkpoints.glob("trial-0001/step-*/model.safetensors"))
    content = bytearray(newest.read_bytes())
    content[-5] ^= 1
    newest.write_bytes(content)
    search(tmp_path, *arguments)
    said = report(tmp_path)
    assert not said["partial"]
    assert said["cost"]["trials"] == {"complete": 2, "pruned": 0, "failed": 0, "running": 0}
    assert said["cost"]["resumes"] == 1
    assert newest.parent.with_name(f"{newest.parent.name}.quarantined").is_dir()
    damaged = f"Trial 1: Checkpoint {newest.parent.name} is damaged (model.safetensors: expected SHA-256 "
    assert any(warning.startswith(damaged) for warning in said["warnings"])


@pytest.mark.slow
def test_a_disk_that_fills_up_ends_with_3_and_the_run_goes_on_later(bench: Path, tmp_path: Path) -> None:
    for name in ("tiny.yaml", "train.csv", "validation.csv", "test.csv"):
        shutil.copy(bench / name, tmp_path)
    shutil.copytree(bench / "model", tmp_path / "model")
    small = tmp_path / "small"
    small.mkdir()
    # A file system of 260 MB of its own, in a mount namespace that needs no rights; filled once a checkpoint is there.
    script = f"""
set -u
changes="--set training.epochs=8 --set budget.trials=2 --set report.baselines=[]"
mount -t tmpfs -o size=260m tmpfs {small}
{sys.executable} {SEARCH} tiny.yaml --storage {small} --reports {tmp_path}/reports $changes &
driver=$!
while ! ls {small}/tiny/checkpoints/trial-0000/step-*/manifest.json >/dev/null 2>&1; do
    kill -0 $driver 2>/dev/null || break; sleep 0.05
done
cat /dev/zero >{small}/filler 2>/dev/null
wait $driver; echo "first exit $?"
rm {small}/filler
{sys.executable} {SEARCH} tiny.yaml --storage {small} --reports {tmp_path}/reports $changes
echo "second exit $?"
"""
    done = subprocess.run(
        ["unshare", "--user", "--map-root-user", "--mount", "bash", "-c", script],
        cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=500,
    )  # fmt: skip
    assert "first exit 3" in done.stdout, done.stdout + done.stderr[-3000:]
    assert re.search(r"no space|No space|full", done.stderr)
    assert "second exit 0" in done.stdout, done.stdout + done.stderr[-3000:]
    said = report(tmp_path)
    assert not said["partial"]
    assert said["cost"]["trials"] == {"complete": 2, "pruned": 0, "failed": 0, "running": 0}


def test_a_storage_path_that_cannot_be_written_is_named(bench: Path) -> None:
    _, errors = search(bench, "tiny.yaml", "--storage", str(bench / "train.csv" / "below"), expect=3)
    assert "train.csv is a file or a broken link, expected a folder that this user may write" in errors
    assert "--storage" in errors


def test_more_workers_than_the_cluster_holds_are_refused_with_both_figures(bench: Path) -> None:
    changes = ["--set", "training.workers_per_trial=512", "--set", "training.batch_size=512", "--name", "wide"]
    _, errors = search(bench, "tiny.yaml", *changes, expect=2)
    assert "one trial asks for 512 worker(s) with 1 CPU(s)" in errors
    assert f"the cluster has 1 node, {os.cpu_count()} CPUs" in errors


def test_a_held_run_is_refused_naming_its_holder(bench: Path) -> None:
    from finesearch.storage.run_lock import RunLock

    (bench / "runs" / "held").mkdir(parents=True)
    with RunLock(bench / "runs" / "held"):
        _, errors = search(bench, "tiny.yaml", "--name", "held", expect=2)
    assert f"process {os.getpid()} on" in errors
