"""One trial of two workers on two hosts that share nothing but storage and the wire between them."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from host_ray import bring_environment, bring_project, make_token, report_of, start_head, start_worker, submit
from hosts import Host, Lan, quoted, require_hosts

from plans import tiny_plan, write_sentiment
from tiny_models import write_tiny_model

pytestmark = [pytest.mark.cluster, pytest.mark.slow]
CHANGES = (
    "training.workers_per_trial=2", "training.epochs=100", "training.prefix_cache=off", "budget.trials=1",
    "report.baselines=[majority]",
)  # fmt: skip


def drain(head: Host, host: Host, seconds: int) -> None:
    """Tell Ray that a host will be taken away."""
    script = (
        "import logging, ray; ray.init(address='auto', logging_level=logging.ERROR, log_to_driver=False)\n"
        f"print('node', *[n['NodeID'] for n in ray.nodes() if n['NodeManagerAddress'] == '{host.address}'])"
    )
    done = head.run(f"RAY_AUTH_MODE=token {quoted('python', '-c', script)}", timeout_s=60)
    node = done.stdout.split("node ")[-1].strip()
    head.run(
        f"RAY_AUTH_MODE=token ray drain-node --address={head.address}:6379 --node-id={node} "
        "--reason=DRAIN_NODE_REASON_PREEMPTION --reason-message=spot "
        f"--deadline-remaining-seconds={seconds}"
    )


def test_a_trial_across_hosts_outlives_a_notice_and_a_loss(tmp_path: Path) -> None:
    require_hosts()
    with Lan(3) as lan:
        head, first, second = lan.hosts
        mine = lan.shared / "mine"
        mine.mkdir()
        write_tiny_model(mine / "model")
        write_sentiment(mine)
        (mine / "tiny.yaml").write_text(tiny_plan(trials=1, baselines="[majority]"))
        for host in lan.hosts:
            bring_environment(host)
        bring_project(head)
        token = make_token()
        start_head(head, token, cpus=0)
        for host in (first, second):
            start_worker(host, head, token)
        words = " ".join(f"--set {change}" for change in CHANGES)
        job = submit(head, f"python platform/search.py /mnt/shared/mine/tiny.yaml --storage /mnt/shared/runs {words}")
        trial = lan.shared / "runs" / "tiny" / "checkpoints" / "trial-0000"

        def wait_until(pattern: str, count: int, timeout_s: float) -> None:
            by = time.monotonic() + timeout_s
            while len(list(trial.glob(pattern))) < count:
                assert time.monotonic() < by, f"no {pattern} within {timeout_s:g} s; {job.told()}:\n{job.log()}"
                time.sleep(0.5)

        wait_until("step-*/manifest.json", 1, 120)
        third = lan.add()
        bring_environment(third)
        start_worker(third, head, token)
        drain(head, second, seconds=60)
        wait_until("paused-*/manifest.json", 1, 60)
        wait_until("attempts/2", 1, 60)
        lan.lose(second)
        # The trial trains on the first host and the third; now one of them goes without a word.
        wait_until("step-*-a2/manifest.json", 1, 120)
        lan.lose(third)
        fourth = lan.add()
        bring_environment(fourth)
        start_worker(fourth, head, token)
        assert job.wait(300) == {"status": "SUCCEEDED", "driver_exit_code": 0}, job.log()
        said = report_of(head.path("/root/finesearch/reports"), "tiny")
        assert said["cost"]["trials"] == {"complete": 1, "pruned": 0, "failed": 0, "running": 0}
        (row,) = said["ranked"]
        assert row["validation"] == pytest.approx(row["revalidated"], abs=1e-9)
        history = json.loads((Path(str(trial)) / Path(row["checkpoint"]).name / "finesearch.json").read_text())
        steps = [evaluation["step"] for evaluation in history["history"]]
        assert steps == list(range(1, len(steps) + 1))
