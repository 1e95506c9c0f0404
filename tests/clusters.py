"""A real Ray for tests, started by Ray's own command line, and processes that are told apart from all others."""

from __future__ import annotations

import os
import re
import secrets
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

BIN = Path(sys.executable).parent
ROOT = Path(__file__).resolve().parents[1]


def environment(**more: str) -> dict[str, str]:
    """What a driver needs: this source tree, no hub, no usage statistics, and no token but one that is given."""
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(ROOT / "platform"), str(ROOT / "tests"), str(ROOT / "tests" / "tuning")]),
        "HF_HUB_OFFLINE": "1",
        "DS_BUILD_OPS": "0",
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.2",
        "OMP_NUM_THREADS": "1",
        "RAY_AUTH_MODE": "disabled",
        **more,
    }


@contextmanager
def ray_cluster(folder: Path, cpus: int = 4) -> Iterator[dict[str, str]]:
    """A head node of its own on a free port, with a token; the environment that a driver joins it with."""
    folder.mkdir(parents=True, exist_ok=True)
    token = folder / "token"
    token.touch(mode=0o600)
    token.write_text(secrets.token_hex(32))
    access = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(token)}
    command = [
        str(BIN / "ray"), "start", "--head", "--port=0", f"--num-cpus={cpus}", "--include-dashboard=false",
        "--disable-usage-stats", f"--temp-dir={folder}", "--node-ip-address=127.0.0.1",
        "--object-store-memory=100000000",
    ]  # fmt: skip
    done = subprocess.run(command, env=environment(**access), capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    found = re.search(r"--address='([^']+)'", done.stdout)
    assert found, done.stdout
    try:
        yield environment(RAY_ADDRESS=found[1], **access)
    finally:
        for process in processes_of(folder):
            process.kill()


@contextmanager
def ray_folder() -> Iterator[Path]:
    """A folder for a Ray's own files, with a path short enough for the sockets in it."""
    with tempfile.TemporaryDirectory(prefix="fs-", ignore_cleanup_errors=True) as folder:
        yield Path(folder)


def processes_of(folder: Path) -> list[psutil.Process]:
    """Every process of the Ray whose files lie in ``folder``."""
    found = []
    for process in psutil.process_iter():
        try:
            words = process.cmdline()
            if any(str(folder) in word for word in words):
                found.append(process)
                found += process.children(recursive=True)
        except psutil.Error:
            continue
    return found
