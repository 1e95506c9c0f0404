"""Object stores for tests: real HTTP servers on the loopback, in threads of the test's own process."""

from __future__ import annotations

import importlib.util
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

import pytest

from clusters import free_port

BUCKET = "bucket"
KEYS = {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing", "AWS_EC2_METADATA_DISABLED": "true"}
"""The server does not look at them; the client wants some, and would ask the network for others."""


def missing(what: str) -> NoReturn:
    """Skip for want of a program, or fail where every one of them is to be there."""
    if os.environ.get("FINESEARCH_REQUIRE_CLUSTER") == "1":
        pytest.fail(f"{what}, and FINESEARCH_REQUIRE_CLUSTER is set")
    pytest.skip(what)


@contextmanager
def s3_server() -> Iterator[str]:
    """An S3 server (moto) without a bucket; ``HOST:PORT``."""
    if importlib.util.find_spec("moto") is None:
        missing("moto is not installed: pip install 'moto[s3,server]'")
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        yield "{}:{}".format(*server.get_host_and_port())
    finally:
        server.stop()


def s3_options(address: str) -> str:
    """What stands behind ``?`` in a URI to reach a server."""
    return f"endpoint_override={address}&scheme=http&region=us-east-1"


@contextmanager
def s3_bucket() -> Iterator[str]:
    """A server with :data:`BUCKET` in it; what stands behind ``?``. The keys are in the environment meanwhile."""
    from pyarrow.fs import FileSystem

    with pytest.MonkeyPatch.context() as patch, s3_server() as address:
        for name, value in KEYS.items():
            patch.setenv(name, value)
        filesystem, _ = FileSystem.from_uri(f"s3://{BUCKET}/?{s3_options(address)}&allow_bucket_creation=true")
        filesystem.create_dir(BUCKET)
        yield s3_options(address)


@contextmanager
def gs_bucket() -> Iterator[str]:
    """A Google Cloud Storage server (gcp-storage-emulator) with a bucket; what stands behind ``?`` in a URI."""
    if importlib.util.find_spec("gcp_storage_emulator") is None:
        missing("gcp-storage-emulator is not installed: pip install gcp-storage-emulator")
    from gcp_storage_emulator.server import create_server

    port = free_port()
    server = create_server("127.0.0.1", port, in_memory=True, default_bucket=BUCKET)
    server.start()
    try:
        yield f"endpoint_override=127.0.0.1:{port}&scheme=http"
    finally:
        server.stop()
