"""`slurm.sh` on a Slurm of two hosts: a search over both nodes, and its exit status is that of the job."""

from __future__ import annotations

import os
import re
import stat
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from host_ray import report_of
from hosts import Host, Lan, require, require_hosts
from slurm_hosts import PROGRAMS, start_slurm

from paths import ROOT
from plans import tiny_plan, write_sentiment
from tiny_models import write_tiny_model

SCRIPT = ROOT / "cluster" / "slurm.sh"
TEXT = SCRIPT.read_text(encoding="utf-8")


def test_the_script_is_clean() -> None:
    require("shellcheck")
    done = subprocess.run(["shellcheck", SCRIPT], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout


def test_every_name_of_the_user_is_marked_and_slurm_reads_all_of_them() -> None:
    body = TEXT.index("set -euo pipefail")
    options = re.findall(r"^#?#SBATCH (--[\w-]+)", TEXT, re.MULTILINE)
    assert {"--nodes", "--cpus-per-task", "--gpus-per-node", "--partition", "--time", "--exclusive"} <= set(options)
    assert all(TEXT.index(f"SBATCH {option}") < body for option in options), "behind a command they would be ignored"
    for option in ("--nodes", "--cpus-per-task", "--gpus-per-node", "--partition", "--time"):
        assert re.search(rf"^#+SBATCH {option}=.*FILL IN", TEXT, re.MULTILINE), option


def test_a_fresh_home_has_a_token_that_only_its_owner_reads_before_ray_starts(tmp_path: Path) -> None:
    lines = TEXT[TEXT.index("(umask 077;") : TEXT.index("# Nodes that load")]
    script = f"{lines}\necho $RAY_AUTH_MODE $RAY_AUTH_TOKEN"
    said = []
    for _ in range(2):
        done = subprocess.run(
            ["bash", "-euc", f"umask 0\n{script}"], env={**os.environ, "HOME": str(tmp_path)}, capture_output=True,
            text=True, check=True, timeout=30,
        )  # fmt: skip
        said.append(done.stdout)
    token = tmp_path / ".ray" / "auth_token"
    assert stat.S_IMODE(token.stat().st_mode) == 0o600
    assert stat.S_IMODE(token.parent.stat().st_mode) == 0o700
    assert re.fullmatch(r"token [0-9a-f]{64}\n", said[0])
    assert said[0] == said[1], "the second job has the same token"
    assert TEXT.index("auth_token") < TEXT.index("ray symmetric-run")
    assert "--dashboard-host=127.0.0.1" in TEXT
    assert "A PRIVATE NETWORK IS REQUIRED" in TEXT


@pytest.fixture(scope="module")
def lan() -> Iterator[Lan]:
    require_hosts()
    require(*PROGRAMS, root=True)
    with Lan(2) as made:
        work = made.shared / "work"
        work.mkdir()
        write_tiny_model(work / "model")
        write_sentiment(work)
        (work / "tiny.yaml").write_text(tiny_plan(trials=4, pruner="none", baselines="[majority]"))
        (work / "long.yaml").write_text(
            tiny_plan(trials=400, baselines="[majority]").replace("name: tiny", "name: long")
        )
        start_slurm(made)
        yield made


def sbatch(host: Host, *arguments: str, wait: bool = True) -> str:
    words = [
        "sbatch",
        "--parsable",
        *(["--wait"] if wait else []),
        "--cpus-per-task=1",
        "~/finesearch/cluster/slurm.sh",
    ]
    done = host.run(f"cd /mnt/shared/work && {' '.join([*words, *arguments])}; echo exit $?", timeout_s=400)
    return done.stdout


def log_of(lan: Lan, said: str) -> str:
    number = re.search(r"^(\d+)", said, re.MULTILINE)
    assert number, said
    return (lan.shared / "work" / f"finesearch-{number[1]}.log").read_text(encoding="utf-8")


def nothing_runs(lan: Lan) -> None:
    """No Ray is left on any node a moment after the job has ended."""
    by = time.monotonic() + 30
    while left := [host.run("pgrep -fa 'ray::|raylet|gcs_server'", check=False).stdout for host in lan.hosts]:
        if not any(left):
            return
        assert time.monotonic() < by, left
        time.sleep(0.5)


@pytest.mark.cluster
@pytest.mark.slow
def test_a_search_takes_both_nodes_and_ends_with_success(lan: Lan) -> None:
    said = sbatch(lan.hosts[0], "tiny.yaml")
    log = log_of(lan, said)
    assert "exit 0" in said, log
    assert "2 nodes, 2 CPUs" in log, log
    report = report_of(lan.shared / "work" / "reports", "tiny")
    assert not report["partial"]
    assert report["cost"]["trials"]["complete"] == 4
    nothing_runs(lan)
    for host in lan.hosts:
        token = host.path("/root/.ray/auth_token")
        assert not token.exists() or stat.S_IMODE(token.stat().st_mode) == 0o600
    assert lan.hosts[0].path("/root/.ray/auth_token").read_text() not in log


@pytest.mark.cluster
@pytest.mark.slow
def test_bad_input_is_the_jobs_exit_status(lan: Lan) -> None:
    said = sbatch(lan.hosts[0], "tiny.yaml", "--name", "other", "--set", "task.columns.text=sentense")
    log = log_of(lan, said)
    assert "exit 2" in said, log
    assert "sentense" in log
    nothing_runs(lan)


@pytest.mark.cluster
@pytest.mark.slow
def test_slurms_word_that_time_is_up_leaves_everything_saved_and_the_same_job_goes_on(lan: Lan) -> None:
    head = lan.hosts[0]
    number = sbatch(head, "long.yaml", wait=False).split()[0]
    by = time.monotonic() + 120
    kept = lan.shared / "work" / "runs" / "long" / "checkpoints"
    while len(list(kept.glob("trial-*"))) < 3:
        assert time.monotonic() < by, log_of(lan, number)
        time.sleep(0.5)
    head.run(f"scancel --batch --signal=TERM {number}")
    while head.run(f"squeue -h -j {number}", check=False).stdout.strip():
        assert time.monotonic() < by + 90, log_of(lan, number)
        time.sleep(0.5)
    log = log_of(lan, number)
    assert "ExitCode=143:0" in head.run(f"scontrol show job {number}").stdout, log
    report = report_of(lan.shared / "work" / "reports", "long")
    assert report["partial"]
    done = report["cost"]["trials"]["complete"]
    assert done >= 1
    nothing_runs(lan)
    said = sbatch(head, "long.yaml", "--set", f"budget.trials={done + 2}")
    assert "exit 0" in said, log_of(lan, said)
    again = report_of(lan.shared / "work" / "reports", "long")
    assert not again["partial"]
    assert again["cost"]["trials"]["complete"] >= done + 1
