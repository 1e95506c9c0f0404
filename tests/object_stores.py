"""Object stores for tests: real HTTP servers on the loopback, each with an empty bucket."""

from __future__ import annotations

import importlib.util
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from clusters import free_port

BUCKET = "bucket"
KEYS = {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing", "AWS_EC2_METADATA_DISABLED": "true"}
"""The server does not look at them; the client wants some, and would ask the network for others."""


def missing(what: str) -> None:
    """Skip for want of a program, or fail where every one of them is to be there."""
    if os.environ.get("FINESEARCH_REQUIRE_CLUSTER") == "1":
        pytest.fail(f"{what}, and FINESEARCH_REQUIRE_CLUSTER is set")
    pytest.skip(what)


@contextmanager
def s3_server(**environment: str) -> Iterator[str]:
    """An S3 server (moto); what stands behind ``?`` in a URI to reach it. environment: of the server."""
    server = shutil.which("moto_server", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))
    if server is None:
        missing("moto_server is not installed: pip install 'moto[server]'")
    port = free_port()
    process = subprocess.Popen(
        [str(server), "-H", "127.0.0.1", "-p", str(port)],
        env={**os.environ, **environment}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        wait_for(port, process)
        yield f"endpoint_override=127.0.0.1:{port}&scheme=http&region=us-east-1"
    finally:
        process.kill()
        process.wait()


def make_bucket(options: str) -> None:
    """Make :data:`BUCKET` on a server of :func:`s3_server`."""
    from pyarrow.fs import FileSystem

    filesystem, _ = FileSystem.from_uri(f"s3://{BUCKET}/?{options}&allow_bucket_creation=true")
    filesystem.create_dir(BUCKET)


@contextmanager
def s3_bucket() -> Iterator[str]:
    """The same with a bucket in it."""
    with s3_server() as options:
        make_bucket(options)
        yield options


@contextmanager
def gs_bucket() -> Iterator[str]:
    """A Google Cloud Storage server (gcp-storage-emulator) with a bucket; what stands behind ``?`` in a URI."""
    if importlib.util.find_spec("gcp_storage_emulator") is None:
        missing("gcp-storage-emulator is not installed: pip install gcp-storage-emulator")
    port = free_port()
    command = [sys.executable, "-m", "gcp_storage_emulator", "start", "--host", "127.0.0.1", "--port", str(port)]
    process = subprocess.Popen(
        [*command, "--in-memory", "--default-bucket", BUCKET], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        wait_for(port, process)
        yield f"endpoint_override=127.0.0.1:{port}&scheme=http"
    finally:
        process.kill()
        process.wait()


def wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    """Until something listens on a port of the loopback."""
    end = time.monotonic() + 30
    while time.monotonic() < end:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        assert process.poll() is None, "the server ended"
        time.sleep(0.05)
    raise AssertionError("the server does not come up")
