"""What a folder and an object store both do, and do alike."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from pathlib import Path

import pytest

from finesearch.errors import StorageError, TrialError
from finesearch.storage.local_store import LocalStore
from finesearch.storage.open_store import open_store
from finesearch.storage.store import Store
from object_stores import BUCKET, s3_bucket


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with s3_bucket() as options:
        yield options


@pytest.fixture(params=["folder", "object store"])
def run(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    if request.param == "folder":
        return open_store(tmp_path / "runs" / "sst2")
    return open_store(f"s3://{BUCKET}/{request.node.originalname}/sst2?{request.getfixturevalue('server')}")


def test_files_are_written_read_and_deleted(run: Store) -> None:
    run.check()
    assert run.read("plan.yaml") is None
    run.write("plan.yaml", b"name: a")
    run.write("plan.yaml", b"name: b")
    assert run.read("plan.yaml") == b"name: b"
    assert pickle.loads(pickle.dumps(run)).read("plan.yaml") == b"name: b"
    run.delete_file("plan.yaml")
    run.delete_file("plan.yaml")
    assert run.read("plan.yaml") is None


def test_folders_are_listed_and_deleted(run: Store) -> None:
    assert run.folders() == set()
    for name in ("trial-0001", "trial-0002"):
        run.child(name).check()
        run.child(name).write("result.json", b"{}")
    assert run.folders() == {"trial-0001", "trial-0002"}
    run.child("trial-0001").delete()
    assert run.folders() == {"trial-0002"}


def test_a_run_that_is_set_aside_takes_the_next_free_name(run: Store) -> None:
    for content in (b"first", b"second"):
        run.check()
        run.write("plan.yaml", content)
        run.set_aside("plan.yaml")
    assert run.read("plan.yaml") is None
    old = [open_store(run.address.replace("/sst2", f"/sst2.old-{number}")) for number in (1, 2)]
    assert [each.read("plan.yaml") for each in old] == [b"first", b"second"]


def test_no_two_claims_share_a_number(run: Store) -> None:
    assert [run.child("attempts").claim_number() for _ in range(3)] == [1, 2, 3]


def test_checkpoints_are_named_from_the_run_and_found_again(run: Store) -> None:
    checkpoint = run.child("checkpoints", "trial-0001").address
    assert run.relative(checkpoint) == "checkpoints/trial-0001"
    assert run.resolve("checkpoints/trial-0001") == checkpoint
    elsewhere = run.child("checkpoints").address.replace("/sst2", "/other")
    assert run.resolve(run.relative(elsewhere)) == elsewhere


def test_a_local_copy_holds_the_files_and_errors_name_the_store(run: Store) -> None:
    run.check()
    run.write("manifest.json", b"{}")
    copy = run.local_copy()
    assert (copy.folder / "manifest.json").read_bytes() == b"{}"
    with pytest.raises(TrialError) as told, copy.errors_naming_store() as folder:
        raise TrialError(f"{folder}: damaged")
    assert told.value.message == f"{run.shown}: damaged"


def test_a_folder_that_cannot_be_written_is_named_with_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match=r"storage \S+/file/runs: \S+/file is a file or a broken link, expected"):
        LocalStore(tmp_path / "file" / "runs").check()
