"""Storage that one of two nodes does not mount is noticed before the first trial, and so is a node that joins later."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from clusters import BIN, environment, processes_of, ray_cluster, ray_folder
from finesearch.errors import StorageError
from finesearch.storage.local_store import LocalStore
from finesearch.tuning.cluster.shared_storage_check import check_attempt_is_seen
from object_stores import KEYS, missing, s3_bucket

CHECK = """
import sys, ray
from finesearch.errors import FinesearchError
from finesearch.storage.open_store import open_store
from finesearch.tuning.connection import connect
from finesearch.tuning.cluster.shared_storage_check import check_shared_storage
connect.connect()
assert len(ray.nodes()) == 2
for storage in sys.argv[1:]:
    try:
        check_shared_storage(open_store(storage), lambda said: print("said:", said))
    except FinesearchError as error:
        print("refused:", error.exit_code, error.message.replace(chr(10), " "))
"""


@pytest.fixture(scope="module")
def two_nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[dict[str, str], Path, Path]]:
    """A head, and a node in a mount namespace in which one of two folders is another: environment of a driver, the
    folder that both share, and the one that only seems to be shared."""
    if os.geteuid() != 0 or shutil.which("unshare") is None:
        missing("a node with mounts of its own needs root and unshare")
    folder = tmp_path_factory.mktemp("storage")
    shared, private = folder / "shared", folder / "private"
    shared.mkdir()
    private.mkdir()
    with ray_folder() as home, ray_folder() as other, ray_cluster(home, cpus=1, **KEYS) as driver:
        command = (
            f"mount -t tmpfs none {private} && {BIN}/ray start --address={driver['RAY_ADDRESS']} --num-cpus=1 "
            f"--node-ip-address=127.0.0.2 --temp-dir={other} --object-store-memory=100000000 --disable-usage-stats"
        )
        access = {name: driver[name] for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN_PATH")}
        done = subprocess.run(
            ["unshare", "--mount", "bash", "-c", command],
            env=environment(**access, **KEYS), capture_output=True, text=True, timeout=120,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        try:
            yield driver, shared, private
        finally:
            for process in processes_of(other):
                process.kill()


def check(driver: dict[str, str], *storages: str) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", CHECK, *storages], env={**driver, **KEYS}, capture_output=True, text=True, timeout=200
    )
    assert done.returncode == 0, done.stdout + done.stderr[-3000:]
    return done.stdout.splitlines()


@pytest.mark.slow
@pytest.mark.cluster
def test_a_folder_that_one_node_does_not_mount_is_refused_with_the_fix(
    two_nodes: tuple[dict[str, str], Path, Path],
) -> None:
    driver, shared, private = two_nodes
    with s3_bucket() as options:
        said = check(driver, str(shared), str(private), f"s3://bucket/run?{options}")
    assert said[0] == "said: storage is reached by all 2 nodes"
    assert said[1].startswith(f"refused: 3 storage {private}: 1 of 2 nodes do not reach it as this one does:")
    assert "127.0.0.2" in said[1]
    assert "does not see what the driver writes there" in said[1]
    assert "a folder that all of them mount (such as /mnt/shared/runs), or an s3:// or gs:// URI" in said[1]
    assert said[-1] == "said: storage is reached by all 2 nodes"
    assert list(shared.iterdir()) == []
    assert list(private.iterdir()) == []


def test_a_worker_that_does_not_see_what_the_driver_wrote_ends_the_search(tmp_path: Path) -> None:
    trial, elsewhere = tmp_path / "trial-0000", tmp_path / "elsewhere" / "trial-0000"
    attempt = LocalStore(trial / "attempts").claim_number()
    check_attempt_is_seen(str(trial), attempt)
    began = time.monotonic()
    with pytest.raises(StorageError, match=r"elsewhere/trial-0000: node \S+ does not see .*s3:// or gs:// URI"):
        check_attempt_is_seen(str(elsewhere), attempt, patience_s=0.1)
    assert time.monotonic() - began < 5
