"""What survives a power cut: files are flushed before they are renamed, and folders after it, in that order."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from finesearch.storage import checksummed_dirs
from finesearch.storage.atomic_files import replace_synced, write_synced


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """Flushes and renames in their order, by file name; each is done as well."""
    told: list[tuple[str, str]] = []

    def recorded(name: str, target: Callable[..., Any], shown: Callable[..., str]) -> None:
        def call(*arguments: Any, **named: Any) -> Any:
            told.append((name, shown(*arguments)))
            return target(*arguments, **named)

        monkeypatch.setattr(os, target.__name__, call)

    recorded("flush", os.fsync, lambda handle: Path(os.readlink(f"/proc/self/fd/{handle}")).name)
    for move in (os.replace, os.rename):
        recorded("rename", move, lambda source, target: f"{Path(source).name} to {Path(target).name}")
    return told


def test_a_file_is_flushed_before_its_writer_returns(tmp_path: Path, calls: list[tuple[str, str]]) -> None:
    write_synced(tmp_path / "a.json", b"{}")
    assert calls == [("flush", "a.json")]


def test_a_file_takes_the_place_of_another_once_it_is_flushed(tmp_path: Path, calls: list[tuple[str, str]]) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    replace_synced(folder / "a.json", b"{}")
    temporary = f".tmp-a.json-{os.getpid()}"
    assert calls == [("flush", temporary), ("rename", f"{temporary} to a.json"), ("flush", "run")]


def test_a_folder_is_whole_on_the_disk_before_it_gets_its_name(tmp_path: Path, calls: list[tuple[str, str]]) -> None:
    folder = tmp_path / "trial" / ".tmp-step"
    folder.mkdir(parents=True)
    for name in ("a", "b"):
        (folder / name).write_bytes(name.encode())
    checksummed_dirs.write_manifest(folder)
    checksummed_dirs.rename_synced(folder, folder.with_name("step"))
    assert calls == [
        ("flush", "a"), ("flush", "b"), ("flush", "manifest.json"), ("flush", ".tmp-step"),
        ("rename", ".tmp-step to step"), ("flush", "trial"),
    ]  # fmt: skip
