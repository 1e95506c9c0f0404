"""A search whose storage is an object store, by its front door: killed, gone on with on another machine, reported and
exported from there."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from clusters import environment, processes_of, ray_folder
from finesearch.storage.object_store import ObjectStore
from object_stores import BUCKET, KEYS, s3_bucket
from paths import ROOT
from plans import tiny_plan, write_sentiment
from tiny_models import write_tiny_model

pytestmark = [pytest.mark.slow, pytest.mark.cluster]


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with s3_bucket() as options:
        yield options


@pytest.fixture
def bench(tmp_path: Path) -> Path:
    write_tiny_model(tmp_path / "model")
    write_sentiment(tmp_path)
    (tmp_path / "tiny.yaml").write_text(tiny_plan(baselines="[majority]"))
    return tmp_path


class Machine:
    """A home of its own, and a Ray of its own."""

    def __init__(self, folder: Path, name: str, ray: Path) -> None:
        self.bench, self.ray = folder, ray
        self.home = {f"XDG_{kind}_HOME": str(folder / name / kind.lower()) for kind in ("CACHE", "STATE")}

    def command(self, *words: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, *words], cwd=self.bench, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            env=environment(RAY_TMPDIR=str(self.ray), **self.home, **KEYS),
        )  # fmt: skip

    def run(self, *words: str, expect: int = 0) -> tuple[str, str]:
        with self.command(*words) as process:
            output, errors = process.communicate(timeout=400)
        assert process.returncode == expect, output + errors[-4000:]
        return output, errors


@pytest.fixture
def machines(bench: Path) -> Iterator[tuple[Machine, Machine]]:
    with ray_folder() as one, ray_folder() as two:
        yield Machine(bench, "one", one), Machine(bench, "two", two)


def report(folder: Path, name: str = "reports") -> dict[str, Any]:
    return json.loads((folder / name / "tiny" / "report.json").read_text(encoding="utf-8"))


def test_a_search_in_a_bucket_survives_the_loss_of_its_machine(
    server: str, bench: Path, machines: tuple[Machine, Machine]
) -> None:
    one, two = machines
    storage, run = f"s3://{BUCKET}/runs?{server}", ObjectStore(f"s3://{BUCKET}/runs/tiny?{server}")
    search = [str(ROOT / "platform" / "search.py"), "tiny.yaml", "--storage", storage]
    changes = ["--set", "training.epochs=20", "--set", "training.prefix_cache=off"]
    with one.command(*search, *changes) as driver:
        end = time.monotonic() + 300
        while not any(name.startswith("checkpoints/trial-0002/") for name in run.files()):
            assert driver.poll() is None, driver.communicate()
            assert time.monotonic() < end, "the search does not get anywhere"
            time.sleep(0.1)
        time.sleep(6.0)  # a copy of the study is due
        driver.send_signal(signal.SIGKILL)
    while left := processes_of(one.ray):
        assert time.monotonic() < end, f"left behind: {left}"
        time.sleep(0.2)
    output, _ = two.run(*search, *changes)
    assert "was at work on it; seeing for 60 s whether it still is" in output
    said = report(bench)
    assert not said["partial"]
    assert said["cost"]["trials"] == {"complete": 4, "pruned": 0, "failed": 0, "running": 0}
    assert said["cost"]["resumes"] == 1
    started = {row["trial"]: row for row in said["ranked"] + said["unranked"]}
    assert sorted(started) == [0, 1, 2, 3]
    for row in said["ranked"]:
        assert row["validation"] == pytest.approx(row["revalidated"], abs=1e-9)
        assert row["checkpoint"].startswith(f"s3://{BUCKET}/runs/tiny/checkpoints/trial-")
    kept = {name.split("/")[1] for name in run.files() if name.startswith("checkpoints/")}
    assert kept == {f"trial-{row['trial']:04d}" for row in said["ranked"]}
    assert {"plan.yaml", "study.db", "ranked.json"} <= set(run.files())
    assert run.child("drivers").files() == {}

    # From any machine, and without Ray.
    one.run("-m", "finesearch.cli", "report", run.uri, "--reports", "again")
    again = report(bench, "again")
    assert again["ranked"] == said["ranked"]
    one.run("-m", "finesearch.cli", "export", run.uri, "winner", "--rank", "1")
    assert (bench / "winner" / "model.safetensors").is_file()
    output, _ = one.run(*search, *changes, "--reports", "told-again")
    assert "starting worker groups" not in output
    assert report(bench, "told-again")["ranked"] == said["ranked"]


def test_fresh_starts_over_in_the_bucket_and_sets_the_old_run_aside(
    server: str, bench: Path, machines: tuple[Machine, Machine]
) -> None:
    one, two = machines
    search = [str(ROOT / "platform" / "search.py"), "tiny.yaml", "--storage", f"s3://{BUCKET}/fresh?{server}"]
    one.run(*search, "--set", "budget.trials=1")
    two.run(*search, "--set", "budget.trials=1", "--fresh")
    assert len(report(bench)["ranked"]) == 1
    old = ObjectStore(f"s3://{BUCKET}/fresh/tiny.old-1?{server}")
    assert {"plan.yaml", "study.db", "ranked.json"} <= set(old.files())


def test_a_bucket_that_is_not_there_ends_with_3_before_anything_starts(
    server: str, bench: Path, machines: tuple[Machine, Machine]
) -> None:
    search = [str(ROOT / "platform" / "search.py"), "tiny.yaml", "--storage", f"s3://nowhere/runs?{server}"]
    output, errors = machines[0].run(*search, expect=3)
    assert "storage s3://nowhere/runs/tiny: cannot be written: there is no such bucket" in errors
    assert "Create it first" in errors
    assert os.environ.get("AWS_ENDPOINT_URL") is None
