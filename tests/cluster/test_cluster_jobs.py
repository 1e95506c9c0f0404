"""Searches as jobs on hosts of their own: nothing is shared but /mnt/shared, and any host may go."""

from __future__ import annotations

import json
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet
import pytest
from host_ray import (
    Job,
    bring_environment,
    bring_project,
    make_token,
    nodes_alive,
    report_of,
    start_head,
    start_worker,
    submit,
)  # fmt: skip
from hosts import ROOT, Host, Lan, require_hosts

from plans import tiny_plan, write_sentiment
from tiny_models import write_tiny_model

pytestmark = [pytest.mark.cluster, pytest.mark.slow]

BARE = "python platform/search.py"
SLOW_DISK = '''
"""The front door of a project whose disk becomes slow once ~/slow exists."""
import sys, time
from pathlib import Path
sys.path.insert(0, "platform")
import finesearch.run.partial_report
from finesearch.cli import search_main
write = finesearch.run.partial_report.write_report
def write_slowly(record, folder):
    if (Path.home() / "slow").exists():
        time.sleep(8)
    return write(record, folder)
finesearch.run.partial_report.write_report = write_slowly
sys.exit(search_main())
'''


@pytest.fixture
def lan() -> Iterator[Lan]:
    require_hosts()
    with Lan(2) as made:
        mine = made.shared / "mine"
        mine.mkdir()
        write_tiny_model(mine / "model", layers=6)  # as many as the quickstart's
        write_sentiment(mine)
        (mine / "tiny.yaml").write_text(tiny_plan(trials=6, baselines="[majority]"))
        yield made


@pytest.fixture
def pair(lan: Lan) -> tuple[Host, Host]:
    """A head with the project, Ray started in it, and a worker with the dependencies alone; one CPU each."""
    head, worker = lan.hosts
    for host in lan.hosts:
        bring_environment(host)
    bring_project(head)
    token = make_token()
    start_head(head, token)
    start_worker(worker, head, token)
    return head, worker


def wait_until(holds: Callable[[], Any], job: Job, timeout_s: float = 120) -> None:
    """Wait while a job runs; its log is told where it ended before, or in vain."""
    by, rounds = time.monotonic() + timeout_s, 0
    while not holds():
        rounds += 1
        ended = rounds % 20 == 0 and job.told()["status"] != "RUNNING" and not holds()
        assert not ended, f"it ended: {job.told()}:\n{job.log()}"
        assert time.monotonic() < by, f"not within {timeout_s:g} s; {job.told()}:\n{job.log()}"
        time.sleep(0.5)


def finished(reports: Path, name: str = "tiny") -> dict[int, tuple[Any, ...]]:
    """What a report tells of every finished trial: the value, and when it was finished."""
    rows = pyarrow.parquet.read_table(reports / name / "trials.parquet").to_pylist()
    return {row["trial"]: (row["values"], row["finished"]) for row in rows if row["state"] == "complete"}


def trains(host: Host) -> bool:
    """Whether a training worker runs there."""
    return "RayTrainWorker" in host.run("ps -e -o args=").stdout


def test_two_nodes_run_the_quickstart_as_a_bare_job(lan: Lan, pair: tuple[Host, Host]) -> None:
    head, worker = pair
    changes = "--set task.model=/mnt/shared/mine/model --set budget.trials=4 --set report.baselines=[majority]"
    job = submit(head, f"{BARE} --storage /mnt/shared/runs {changes}")
    wait_until(lambda: trains(worker), job)
    assert job.wait() == {"status": "SUCCEEDED", "driver_exit_code": 0}, job.log()
    assert "2 nodes, 2 CPUs, no GPU" in job.log()
    assert "2 trial(s) at once" in job.log()
    # Where Ray was started: the project on the head.
    said = report_of(head.path("/root/finesearch/reports"), "quickstart")
    assert not said["partial"]
    assert said["cost"]["trials"]["complete"] + said["cost"]["trials"]["pruned"] == 4
    assert said["cost"]["trials"]["failed"] == 0
    assert (lan.shared / "runs" / "quickstart" / "plan.yaml").is_file()
    assert not worker.path("/root/finesearch/platform").exists()
    assert not trains(head)
    assert not trains(worker)


def test_a_job_brings_the_package_to_workers_that_have_the_dependencies_alone(lan: Lan) -> None:
    head, worker = lan.hosts
    for host in lan.hosts:
        bring_environment(host)
    token = make_token()
    start_head(head, token, cpus=0, folder="~")  # so that all training is the worker's
    start_worker(worker, head, token)
    bring_project(head, "/root/elsewhere")
    project = head.path("/root/elsewhere")
    shutil.copytree(lan.shared / "mine", project / "mine")
    for large in ("runs/old/model.safetensors", "reports/old/report.html", "data/rows.csv", ".cache/huggingface/blob",
                  "kept/tiny/checkpoints/trial-0001/model.safetensors", "kept/tiny/study.db"):  # fmt: skip
        (project / large).parent.mkdir(parents=True, exist_ok=True)
        (project / large).write_bytes(bytes(20_000_000))
    job = submit(head, f"{BARE} mine/tiny.yaml --storage /mnt/shared/runs", "--working-dir .", "~/elsewhere")
    wait_until(lambda: trains(worker), job)
    assert job.wait() == {"status": "SUCCEEDED", "driver_exit_code": 0}, job.log()
    copies = "/tmp/ray/session_latest/runtime_resources/working_dir_files"
    sizes = [int(size) for size in head.run(f"cd {copies}; find . -type f -printf '%s\\n'").stdout.split()]
    assert 0 < sum(sizes) < 5_000_000, head.run(f"cd {copies}; find . -type f -size +100k").stdout
    assert report_of(head.path("/root/finesearch/reports"), "tiny")["cost"]["trials"]["complete"] == 6


def test_stopping_a_job_saves_and_submitting_again_goes_on(lan: Lan) -> None:
    head = lan.hosts[0]
    bring_environment(head)
    bring_project(head)
    head.path("/root/finesearch/slow_disk.py").write_text(SLOW_DISK)
    start_head(head, make_token())
    search = "slow_disk.py /mnt/shared/mine/tiny.yaml --storage /mnt/shared/runs"
    job = submit(head, f"python {search} --set budget.trials=500")
    reports = head.path("/root/finesearch/reports")
    wait_until(lambda: (reports / "tiny" / "report.json").exists(), job)
    wait_until(lambda: report_of(reports, "tiny")["cost"]["trials"]["complete"] >= 3, job)
    head.run("touch slow")
    began = time.monotonic()
    job.ask("stop", timeout_s=90)
    told = job.wait(timeout_s=60)
    assert time.monotonic() - began > 8, "the save took that long, and was not cut off"
    assert told["status"] == "STOPPED"
    assert "interrupted (exit 143). Everything finished is saved" in job.log()
    assert report_of(reports, "tiny")["partial"]
    before = finished(reports)
    assert len(before) >= 3
    head.run("rm slow")
    budget = len(before) + 10
    again = submit(head, f"python {search} --set budget.trials={budget}")
    assert again.wait() == {"status": "SUCCEEDED", "driver_exit_code": 0}, again.log()
    said = report_of(reports, "tiny")
    assert not said["partial"]
    assert said["cost"]["resumes"] == 1
    # While the report was being written trials went on, and were journaled: there may be more than the budget by now.
    assert said["cost"]["trials"]["complete"] >= budget
    assert said["cost"]["trials"]["failed"] == said["cost"]["trials"]["running"] == 0
    assert before.items() <= finished(reports).items(), "what was finished is kept, and not run again"


def test_after_the_head_is_lost_a_new_cluster_and_the_same_command_finish_the_study(
    lan: Lan, pair: tuple[Host, Host]
) -> None:
    head, worker = pair
    command = f"{BARE} /mnt/shared/mine/tiny.yaml --storage /mnt/shared/runs --set report.top=20"
    # Slow enough to be lost in the middle.
    changes = "--set training.epochs=60 --set training.prefix_cache=off"
    changes += " --set budget.trials=10 --set search.concurrent_trials=2"
    job = submit(head, f"{command} {changes}")
    reports = head.path("/root/finesearch/reports")
    wait_until(lambda: (reports / "tiny" / "report.json").exists(), job)
    wait_until(lambda: report_of(reports, "tiny")["cost"]["trials"]["complete"] >= 2, job)
    before = finished(reports)
    assert 2 <= len(before) < 10
    lan.lose(head)
    new = lan.add()
    bring_environment(new)
    bring_project(new)
    token = make_token()
    start_head(new, token)
    worker.run("ray stop --force")
    start_worker(worker, new, token)
    again = submit(new, f"{command} {changes}")
    assert again.wait() == {"status": "SUCCEEDED", "driver_exit_code": 0}, again.log()
    said = report_of(new.path("/root/finesearch/reports"), "tiny")
    assert said["cost"]["trials"] == {"complete": 10, "pruned": 0, "failed": 0, "running": 0}
    assert said["cost"]["resumes"] == 1
    after = finished(new.path("/root/finesearch/reports"))
    assert before.items() <= after.items(), "what was finished is kept, and not run again"


def test_a_node_lost_without_grace_costs_what_came_after_the_last_checkpoint(lan: Lan) -> None:
    head, first = lan.hosts
    second = lan.add()
    bring_environment(head)
    bring_project(head)
    shutil.copytree(ROOT / "tests", lan.shared / "tests", ignore=shutil.ignore_patterns("__pycache__"))
    token = make_token()
    for host in lan.hosts:
        host.run("echo export PYTHONPATH=/mnt/shared/tests/support:/mnt/shared/tests/tuning/support >>~/.bashrc")
    shutil.copytree(ROOT / "platform", lan.shared / "platform", ignore=shutil.ignore_patterns("__pycache__"))
    start_head(head, token, cpus=0)
    for host in (first, second):
        start_worker(host, head, token)
    driver = "python /mnt/shared/tests/tuning/support/fault_driver.py /mnt/shared/run none"
    job = submit(head, f"{driver} --trials 6 --concurrent 2 --step-s 2")
    log = lan.shared / "run" / "log"
    wait_until(lambda: log.exists() and len(log.read_text().splitlines()) >= 3, job)
    lost = next(host for host in (first, second) if trains(host))
    lan.lose(lost)
    assert job.wait() == {"status": "SUCCEEDED", "driver_exit_code": 0}, job.log()
    assert nodes_alive(head) == 2
    result = json.loads(next(line for line in job.log().splitlines() if line.startswith('{"trials"')))
    assert [trial["state"] for trial in result["trials"]] == ["complete"] * 6
    trained = Counter(tuple(map(int, line.split()[:2])) for line in log.read_text().splitlines())
    assert set(trained) == {(number, step) for number in range(6) for step in (1, 2, 3)}
    # At most the step under way, of the one or two trials that ran there, is trained again.
    assert sum(trained.values()) <= 18 + 2, trained
