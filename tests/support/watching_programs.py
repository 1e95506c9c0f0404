"""Programs that tests of watching start for real, and what they say over HTTP."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from clusters import BIN

REQUIRED = os.environ.get("FINESEARCH_REQUIRE_CLUSTER") == "1"


def needed(program: str, how: str) -> str:
    """Its path, here or beside this Python; without it the test is skipped, or fails where CI says that it must run."""
    found = shutil.which(program) or shutil.which(program, path=str(BIN))
    if found is None:
        reason = f"{program} is not installed: {how}"
        if REQUIRED:
            pytest.fail(f"FINESEARCH_REQUIRE_CLUSTER=1 is set and {reason}")
        pytest.skip(reason)
    return found


@contextmanager
def running(
    command: list[str], log: Path, environment: dict[str, str], answers: str
) -> Iterator[subprocess.Popen[bytes]]:
    """A server until the block ends; it has answered at the address ``answers`` by then."""
    with log.open("wb") as file:
        server = subprocess.Popen(
            command, stdout=file, stderr=subprocess.STDOUT, env=environment, start_new_session=True
        )
        try:
            wait_for(lambda: server.poll() is not None or is_there(answers), f"{command[0]} to answer", 120)
            assert server.poll() is None, log.read_text()
            yield server
        finally:
            os.killpg(server.pid, 9)
            server.wait()


def is_there(address: str) -> bool:
    try:
        with urllib.request.urlopen(address, timeout=5):
            return True
    except (OSError, urllib.error.URLError):
        return False


def ask(address: str, token: str | None = None, **query: str) -> Any:
    """What a server answers, as JSON."""
    where = f"{address}?{urllib.parse.urlencode(query)}" if query else address
    request = urllib.request.Request(where, headers={"Authorization": f"Bearer {token}"} if token else {})
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.loads(answer.read())


def wait_for(condition: Any, what: str, timeout_s: float = 60.0, every_s: float = 0.2) -> Any:
    """The first true value of a condition."""
    end = time.monotonic() + timeout_s
    while not (found := condition()):
        assert time.monotonic() < end, f"waited {timeout_s:.0f} s for {what}"
        time.sleep(every_s)
    return found
