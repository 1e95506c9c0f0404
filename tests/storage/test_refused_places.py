"""Places that are no folders are refused before anything runs, and links are not followed."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from finesearch.errors import InputError, StorageError
from finesearch.storage.checksummed_dirs import damage, write_manifest
from finesearch.storage.local_dirs import SECRETS, uploaded_secrets
from finesearch.storage.local_store import LocalStore
from finesearch.storage.object_store import ObjectStore
from finesearch.storage.private_dirs import make_run_folder, refuse_strangers_folder, run_mode
from finesearch.storage.run_lock import RunLock
from paths import ROOT


@pytest.mark.parametrize("way", ["check", "free_bytes"])
def test_a_storage_that_is_a_file_is_refused(tmp_path: Path, way: str) -> None:
    (tmp_path / "runs").write_text("mine")
    store = LocalStore(tmp_path / "runs" / "sst2")
    with pytest.raises(StorageError, match=f"{tmp_path}/runs is a file or a broken link, expected a folder"):
        getattr(store, way)()
    assert (tmp_path / "runs").read_text() == "mine"


def test_a_lock_that_is_a_link_is_refused_and_its_target_is_left_alone(tmp_path: Path) -> None:
    target = tmp_path / "precious.txt"
    target.write_text("mine")
    run = tmp_path / "run"
    run.mkdir()
    (run / "driver.lock").symlink_to(target)
    with pytest.raises(StorageError, match=r"driver.lock: expected the lock of a run, .* got a link. Nothing was"):
        RunLock(run)
    assert target.read_text() == "mine"


def test_a_lock_that_is_a_pipe_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "driver.lock")
    with pytest.raises(StorageError, match="got no regular file"):
        RunLock(tmp_path)


@pytest.fixture
def listed(tmp_path: Path) -> Path:
    """A folder with a manifest of two files."""
    folder = tmp_path / "checkpoint"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_text("weights")
    write_manifest(folder)
    return folder


def add_link(folder: Path) -> None:
    (folder / "chat_template.jinja").symlink_to("/etc/hostname")


def replace_by_link(folder: Path) -> None:
    (folder / "config.json").rename(folder.parent / "elsewhere.json")
    (folder / "config.json").symlink_to(folder.parent / "elsewhere.json")


def list_outside(folder: Path) -> None:
    path = folder / "manifest.json"
    path.write_text(path.read_text().replace("config.json", "../config.json"))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (add_link, "chat_template.jinja is a link"),
        (lambda folder: (folder / "chat_template.jinja").write_text("x"), "chat_template.jinja is not listed in"),
        (replace_by_link, "config.json is a link"),
        (list_outside, r"manifest.json cannot be read \(ValueError\)"),
        (lambda folder: (folder / "manifest.json").write_text("[" * 100_000), "manifest.json cannot be read"),
        (lambda folder: (folder / "manifest.json").write_text('{"files": {"a": 1}}'), "manifest.json cannot be read"),
        (lambda folder: (folder / "config.json").unlink(), "config.json is missing"),
    ],
)
def test_what_a_manifest_does_not_list_is_damage(listed: Path, change: Callable[[Path], object], said: str) -> None:
    assert damage(listed) is None
    change(listed)
    assert re.match(said, damage(listed) or "intact")


def test_a_required_file_must_be_listed(listed: Path) -> None:
    assert damage(listed, required=("config.json",)) is None
    assert damage(listed, required=("finesearch.json",)) == "manifest.json does not list finesearch.json"


def test_hidden_files_and_named_ones_may_stand_beside(listed: Path) -> None:
    (listed / ".nfs0001").write_text("")
    (listed / "part-1.json").write_text("")
    assert damage(listed) == "part-1.json is not listed in manifest.json"
    assert damage(listed, beside="part-*.json") is None


def test_a_new_run_folder_is_its_owners_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_run_folder(tmp_path / "runs" / "a")
    monkeypatch.setenv("FINESEARCH_RUN_MODE", "2750")
    make_run_folder(tmp_path / "runs" / "b")
    make_run_folder(tmp_path / "runs" / "a")  # one that is there stays as it is
    modes = [(tmp_path / "runs" / name).stat().st_mode & 0o7777 for name in "ab"]
    assert modes == [0o700, 0o2750]


@pytest.mark.parametrize("mode", ["0777", "0500", "x", "-700", "99"])
def test_permissions_that_cannot_work_are_refused(mode: str) -> None:
    with pytest.raises(InputError, match=f"FINESEARCH_RUN_MODE: expected permissions in octal.*got '{mode}'"):
        run_mode({"FINESEARCH_RUN_MODE": mode})


def test_a_run_that_everybody_may_write_is_refused(tmp_path: Path) -> None:
    refuse_strangers_folder(tmp_path)
    refuse_strangers_folder(tmp_path / "missing")
    tmp_path.chmod(0o777)
    with pytest.raises(StorageError, match=rf"everybody may write this run \(0777\).*chmod o-w {tmp_path}"):
        refuse_strangers_folder(tmp_path)


@pytest.mark.skipif(os.geteuid() != 0, reason="giving a folder away takes root")
def test_a_run_of_another_user_is_refused_unless_the_user_is_named(tmp_path: Path) -> None:
    os.chown(tmp_path, 12345, -1)
    with pytest.raises(StorageError, match=r"expected a run of this user \(root\), got one of 12345: "):
        refuse_strangers_folder(tmp_path, {})
    refuse_strangers_folder(tmp_path, {"FINESEARCH_RUN_OWNERS": "nobody, 12345"})


def test_files_with_keys_in_an_upload_are_named(tmp_path: Path) -> None:
    names = ["plan.yaml", "data.csv", ".env", "a/server.pem", "a/keys.csv", ".aws/credentials"]
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("")
    assert uploaded_secrets(tmp_path) == [".aws", ".env", "a/server.pem"]


def test_the_upload_leaves_out_what_holds_keys() -> None:
    lines = (ROOT / ".rayignore").read_text(encoding="utf-8").splitlines()
    assert {*SECRETS, "**/wandb", "**/mlruns"} <= set(lines)


@pytest.mark.parametrize("name", ["../a", "scores/../../a", "/etc/a"])
def test_an_object_whose_name_leads_out_of_the_folder_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(StorageError, match=f"the name '{name}' leads out of the folder. Delete the object."):
        ObjectStore("s3://bucket/runs").download(tmp_path / "scores", [name])
