"""Ray's control store is killed in the middle of a search: a message of ours, exit 1, and the same command goes on."""

import csv
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from paths import ROOT
from tiny_models import sentences, write_tiny_model

PLAN = """
name: killed
task:
  kind: text-classification
  model: model
  data: {train: train.csv, validation: validation.csv, test: validation.csv}
  columns: {text: text, label: label}
  max_length: 32
space: {learning_rate: {min: 1e-4, max: 1e-2, log: true}}
training: {epochs: 3, batch_size: 4, precision: fp32}
search: {sampler: random, pruner: none, concurrent_trials: 1}
budget: {trials: TRIALS}
report: {top: 1, baselines: []}
storage: runs
"""
COMMAND = [sys.executable, str(ROOT / "platform" / "search.py"), "plan.yaml"]


@pytest.mark.slow
def test_a_search_says_so_and_goes_on_with_the_same_command(tmp_path: Path) -> None:
    write_tiny_model(tmp_path / "model")
    for seed, (split, count) in enumerate((("train", 400), ("validation", 20))):
        with (tmp_path / f"{split}.csv").open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([("text", "label"), *zip(*sentences(count, seed), strict=True)])
    (tmp_path / "plan.yaml").write_text(PLAN.replace("TRIALS", "200"))
    environment = {**os.environ, "RAY_gcs_rpc_server_reconnect_timeout_s": "25"}
    with (tmp_path / "log").open("w") as log:
        search = subprocess.Popen(COMMAND, cwd=tmp_path, env=environment, stdout=log, stderr=log)
        try:
            wait_for("trial 1 complete", tmp_path / "log", search)
            (store,) = [child for child in psutil.Process(search.pid).children(recursive=True) if is_store(child)]
            store.kill()
            assert search.wait(timeout=120) == 1
        finally:
            search.kill()
    told = (tmp_path / "log").read_text()
    assert re.search(
        r"killed: Ray's control store at \S+ has not answered for \d+ s: its process \(gcs_server\) or its machine was "
        r"killed\. Everything finished is saved; a partial report is in \S+report.html\. The same command goes on\.",
        told,
    ), told
    assert (tmp_path / "reports" / "killed" / "report.html").is_file()
    done = len(set(re.findall(r"^trial (\d+) complete", told, re.MULTILINE)))
    again = [*COMMAND, "--set", f"budget.trials={done + 2}"]
    went_on = subprocess.run(again, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert went_on.returncode == 0, went_on.stdout + went_on.stderr
    assert "trial 0 complete" not in went_on.stdout, "what was finished is not done again"
    assert f"{done + 2}/{done + 2} trials" in went_on.stdout


def is_store(process: psutil.Process) -> bool:
    return process.name() == "gcs_server"


def wait_for(text: str, log: Path, search: "subprocess.Popen[bytes]") -> None:
    until = time.monotonic() + 200
    while text not in log.read_text():
        assert search.poll() is None, log.read_text()
        assert time.monotonic() < until, log.read_text()
        time.sleep(0.2)


def test_the_process_ends_when_nothing_answers(tmp_path: Path) -> None:
    script = (
        "import time\n"
        "from finesearch.tuning.ray_tune.control_store_watch import watched_control_store\n"
        "with watched_control_store('127.0.0.1:9', lambda why: print(why, flush=True)):\n"
        "    time.sleep(60)\n"
    )
    environment = {
        **os.environ,
        "RAY_gcs_rpc_server_reconnect_timeout_s": "12",
        "PYTHONPATH": os.pathsep.join([str(ROOT / "platform"), os.environ.get("PYTHONPATH", "")]),
    }
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, timeout=50)
    assert done.returncode == 1, done.stderr
    assert re.match(r"Ray's control store at 127\.0\.0\.1:9 has not answered for \d+ s: its process", done.stdout)
