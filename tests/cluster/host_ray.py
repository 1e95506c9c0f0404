"""Ray on hosts, started and asked as people do it there: token first, inside the project, jobs from the head."""

from __future__ import annotations

import json
import re
import secrets
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hosts import ENVIRONMENT, ROOT, Host, quoted

TREES = ("platform", "search_spaces", "cluster")
FILES = ("pyproject.toml", "constraints.txt", "README.md", "LICENSE", ".rayignore")
START = "--disable-usage-stats --object-store-memory=100000000"
# Not Ray's defaults: the death of a node is seen within seconds instead of a minute.
SOON = (
    "RAY_health_check_period_ms=500 RAY_health_check_failure_threshold=4 RAY_health_check_initial_delay_ms=500 "
    "RAY_health_check_timeout_ms=1000"
)


def bring_environment(host: Host) -> None:
    """``~/finesearch`` with a finished virtual environment and nothing else, as a second ``ray up`` finds it."""
    folder = host.path("/root/finesearch")
    folder.mkdir(exist_ok=True)
    if not (folder / ".venv").is_symlink():
        (folder / ".venv").symlink_to(ENVIRONMENT)


def bring_project(host: Host, folder: str = "/root/finesearch") -> None:
    """This source tree, as a clone would have it."""
    target = host.path(folder)
    target.mkdir(parents=True, exist_ok=True)
    for tree in TREES:
        left_out = shutil.ignore_patterns("__pycache__", "*.egg-info")
        shutil.copytree(ROOT / tree, target / tree, ignore=left_out, dirs_exist_ok=True)
    for file in FILES:
        shutil.copy(ROOT / file, target / file)


def make_token() -> str:
    return secrets.token_hex(32)


def bring_token(host: Host, token: str) -> None:
    host.run(f"umask 077 && mkdir -p ~/.ray && echo {token} >~/.ray/auth_token")


def start_head(host: Host, token: str, cpus: int = 1, folder: str = "~/finesearch") -> None:
    """A head as our cluster files start it, but for its size."""
    bring_token(host, token)
    host.run(
        f"cd {folder} && {SOON} RAY_AUTH_MODE=token RAY_JOB_STOP_WAIT_TIME_S=60 ray start --head --port=6379 "
        f"--dashboard-host=127.0.0.1 --dashboard-port=8265 --node-ip-address={host.address} --num-cpus={cpus} {START}"
    )


def start_worker(host: Host, head: Host, token: str, cpus: int = 1, folder: str = "~") -> None:
    """A worker of that head."""
    bring_token(host, token)
    host.run(
        f"cd {folder} && {SOON} RAY_AUTH_MODE=token ray start --address={head.address}:6379 "
        f"--node-ip-address={host.address} --num-cpus={cpus} {START}"
    )


@dataclass(frozen=True)
class Job:
    """One job, submitted on the head of its cluster."""

    head: Host
    name: str

    def ask(self, words: str, timeout_s: float = 60) -> str:
        """``ray job WORDS NAME``, and what it says."""
        return self.head.run(f"RAY_AUTH_MODE=token ray job {words} {self.name}", timeout_s, check=False).stdout

    def told(self) -> dict[str, Any]:
        """Status and exit code, as the dashboard has them."""
        script = (
            "import json, sys; from ray.job_submission import JobSubmissionClient\n"
            "told = JobSubmissionClient('http://127.0.0.1:8265').get_job_info(sys.argv[1])\n"
            "print(json.dumps({'status': told.status, 'driver_exit_code': told.driver_exit_code}))"
        )
        done = self.head.run(f"RAY_AUTH_MODE=token {quoted('python', '-c', script, self.name)}", timeout_s=60)
        told: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        return told

    def log(self) -> str:
        return self.ask("logs")

    def wait(self, timeout_s: float = 240) -> dict[str, Any]:
        """Wait for its end; what was told of it."""
        by = time.monotonic() + timeout_s
        while (told := self.told())["status"] in ("PENDING", "RUNNING"):
            assert time.monotonic() < by, f"{self.name} runs after {timeout_s:g} s:\n{self.log()}"
            time.sleep(1)
        return told


def submit(head: Host, command: str, options: str = "", folder: str = "~") -> Job:
    """Submit a job from a folder of the head, without waiting for it."""
    asked = f"cd {folder} && RAY_AUTH_MODE=token ray job submit --no-wait {options} -- {command}"
    done = head.run(asked)
    found = re.search(r"Job '(raysubmit_\w+)' submitted", done.stdout)
    assert found, done.stdout
    return Job(head, found[1])


def nodes_alive(head: Host) -> int:
    """Nodes that the cluster counts."""
    script = (
        "import logging, ray; ray.init(address='auto', logging_level=logging.ERROR, log_to_driver=False)\n"
        "print('alive', sum(node['Alive'] for node in ray.nodes()))"
    )
    done = head.run(f"RAY_AUTH_MODE=token {quoted('python', '-c', script)}", timeout_s=60)
    return int(done.stdout.split("alive")[-1])


def report_of(reports: Path, name: str) -> dict[str, Any]:
    """A report, read."""
    read: dict[str, Any] = json.loads((reports / name / "report.json").read_text(encoding="utf-8"))
    return read
