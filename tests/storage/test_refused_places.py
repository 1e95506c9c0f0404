"""Places that are no folders are refused before anything runs, and links are not followed."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from finesearch.errors import StorageError
from finesearch.storage.checksummed_dirs import damage, write_manifest
from finesearch.storage.local_store import LocalStore
from finesearch.storage.run_lock import RunLock


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
