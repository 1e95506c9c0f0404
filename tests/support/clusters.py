"""A real Ray for tests, started by Ray's own command line, and processes that are told apart from all others."""

from __future__ import annotations

import os
import re
import secrets
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from paths import PYTHONPATH

BIN = Path(sys.executable).parent


def environment(**more: str) -> dict[str, str]:
    """What a driver needs: this source tree, no hub, no usage statistics, and no token but one that is given."""
    return {
        **os.environ,
        "PYTHONPATH": PYTHONPATH,
        "HF_HUB_OFFLINE": "1",
        "DS_BUILD_OPS": "0",
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.2",
        "OMP_NUM_THREADS": "1",
        "RAY_AUTH_MODE": "disabled",
        "PATH": os.pathsep.join([str(BIN), os.environ["PATH"]]),  # as an activated environment has it
        **more,
    }


@contextmanager
def ray_cluster(folder: Path, cpus: int = 4, jobs: bool = False, **more: str) -> Iterator[dict[str, str]]:
    """A head node of its own on a free port, with a token; the environment that a driver joins it with.

    jobs: with the dashboard, which takes jobs; ``RAY_API_SERVER_ADDRESS`` names it. more: environment of the node.
    """
    folder.mkdir(parents=True, exist_ok=True)
    token = folder / "token"
    token.touch(mode=0o600)
    token.write_text(secrets.token_hex(32))
    port = free_port()
    access = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(token)}
    command = [
        str(BIN / "ray"), "start", "--head", "--port=0", f"--num-cpus={cpus}", f"--temp-dir={folder}",
        f"--include-dashboard={jobs}", f"--dashboard-port={port}", "--dashboard-agent-listen-port=0",
        "--disable-usage-stats", "--node-ip-address=127.0.0.1", "--object-store-memory=100000000",
    ]  # fmt: skip
    done = subprocess.run(command, env=environment(**access, **more), capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    found = re.search(r"--address='([^']+)'", done.stdout)
    assert found, done.stdout
    try:
        yield environment(RAY_ADDRESS=found[1], RAY_API_SERVER_ADDRESS=f"http://127.0.0.1:{port}", **access)
    finally:
        for process in processes_of(folder):
            process.kill()


def free_port() -> int:
    """A port of the loopback that nobody listens on, outside of the range that Ray gives to workers."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def ray_folder() -> Iterator[Path]:
    """A folder for a Ray's own files, with a path short enough for the sockets in it."""
    with tempfile.TemporaryDirectory(prefix="fs-", ignore_cleanup_errors=True) as folder:
        yield Path(folder)


def processes_of(folder: Path) -> list[psutil.Process]:
    """Every process of the Ray whose files lie in ``folder``: those that name it, and those that log into it."""
    return [process for process in psutil.process_iter() if _belongs(process, str(folder))]


def _belongs(process: psutil.Process, folder: str) -> bool:
    try:
        # A worker renames itself after what it runs, and outlives its raylet by a moment: its log file stays.
        words = [*process.cmdline(), *(os.readlink(f"/proc/{process.pid}/fd/{number}") for number in (1, 2))]
    except (psutil.Error, OSError):
        return False
    return any(folder in word for word in words)
