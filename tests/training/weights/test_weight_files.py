"""The files that are hashed are those that transformers loads, and nothing else is taken for weights."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from finesearch.errors import ModelError
from finesearch.training.model.model_facts import inspect_model
from finesearch.training.weights.weight_files import weight_files, weights_sha256
from training_cases import task_plan

LAYOUTS = {
    "one file": ["model.safetensors"],
    "safetensors before a pickle": ["model.safetensors", "pytorch_model.bin"],
    "a stray file beside one": ["model.safetensors", "model-old.safetensors"],
    "a stray file beside a pickle": ["pytorch_model.bin", "model-old.safetensors", "model-00001-of-00002.safetensors"],
    "shards": ["model.safetensors.index.json", "model-1.safetensors", "model-2.safetensors", "model-3.safetensors"],
    "shards and a pickle": ["model.safetensors.index.json", "model-1.safetensors", "model-2.safetensors",
                             "pytorch_model.bin"],
    "pickled shards": ["pytorch_model.bin.index.json", "pytorch_model-1.bin", "pytorch_model-2.bin"],
}  # fmt: skip
LOADED = {
    "one file": ["model.safetensors"],
    "safetensors before a pickle": ["model.safetensors"],
    "a stray file beside one": ["model.safetensors"],
    "a stray file beside a pickle": ["pytorch_model.bin"],
    "shards": ["model-1.safetensors", "model-2.safetensors"],
    "shards and a pickle": ["model-1.safetensors", "model-2.safetensors"],
    "pickled shards": ["pytorch_model-1.bin", "pytorch_model-2.bin"],
}


def write_index(path: Path, *shards: object, **changes: object) -> None:
    content = {"metadata": {}, "weight_map": {f"tensor {number}": shard for number, shard in enumerate(shards)}}
    path.write_text(json.dumps({**content, **changes}))


def write_layout(folder: Path, names: list[str]) -> None:
    for name in names:
        (folder / name).write_bytes(name.encode())
    for name in names:
        if name.endswith(".index.json"):
            write_index(folder / name, *[f.replace("X", n) for n in "211" for f in [_shard_of(name)]])


def _shard_of(index: str) -> str:
    return "model-X.safetensors" if index.startswith("model") else "pytorch_model-X.bin"


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_files_are_those_that_transformers_loads(layout: str, tmp_path: Path) -> None:
    from transformers.modeling_utils import _get_resolved_checkpoint_files

    write_layout(tmp_path, LAYOUTS[layout])
    loaded, _ = _get_resolved_checkpoint_files(
        str(tmp_path), variant=None, gguf_file=None, use_safetensors=None, user_agent=None, is_remote_code=False
    )
    assert [Path(path).name for path in loaded or ()] == LOADED[layout]
    assert weight_files(tmp_path) == [tmp_path / name for name in LOADED[layout]]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_hash_changes_with_what_is_loaded_alone(layout: str, tmp_path: Path) -> None:
    write_layout(tmp_path, LAYOUTS[layout])
    before = weights_sha256(tmp_path)
    for name in LAYOUTS[layout]:
        if name.endswith(".index.json"):
            continue
        (tmp_path / name).write_bytes(b"other weights")
        assert (weights_sha256(tmp_path) != before) == (name in LOADED[layout]), name
        (tmp_path / name).write_bytes(name.encode())
    assert weights_sha256(tmp_path) == before


def test_config_may_name_the_file_inside_its_folder(tmp_path: Path) -> None:
    write_layout(tmp_path, ["model.safetensors", "other.safetensors"])
    (tmp_path / "config.json").write_text(json.dumps({"transformers_weights": "other.safetensors"}))
    assert weight_files(tmp_path) == [tmp_path / "other.safetensors"]
    (tmp_path / "config.json").write_text(json.dumps({"transformers_weights": "../other.safetensors"}))
    with pytest.raises(ModelError, match=r"config.json names the weights .* as '../other.safetensors', expected a \*"):
        weight_files(tmp_path)


@pytest.mark.parametrize(
    ("shards", "changes", "message"),
    [
        (["../model-1.safetensors"], {}, "names '../model-1.safetensors', expected files in .* alone. Put the shards"),
        (["/etc/passwd"], {}, "names '/etc/passwd', expected files in"),
        ([7], {}, "names 7, expected files in"),
        ([["model-1.safetensors"]], {}, r"is no index of weight files \(TypeError\): expected an object with metadata"),
        ([], {}, "is no index of weight files .it names no file"),
        (["model-1.safetensors"], {"metadata": None}, "is no index of weight files .it names no file, or its metadata"),
        (["model-9.safetensors"], {}, "model-9.safetensors, which model.safetensors.index.json names, does not exist"),
    ],
)
def test_an_index_that_leaves_the_folder_or_names_no_files_is_refused(
    shards: list[object], changes: dict[str, object], message: str, tmp_path: Path
) -> None:
    write_index(tmp_path / "model.safetensors.index.json", *shards, **changes)
    with pytest.raises(ModelError, match=message):
        weights_sha256(tmp_path)


def test_links_as_in_the_hubs_cache_are_followed(tmp_path: Path) -> None:
    (tmp_path / "blob").write_bytes(b"weights")
    (tmp_path / "snapshot").mkdir()
    (tmp_path / "snapshot" / "model.safetensors").symlink_to("../blob")
    (tmp_path / "plain").mkdir()
    (tmp_path / "plain" / "model.safetensors").write_bytes(b"weights")
    assert weights_sha256(tmp_path / "snapshot") == weights_sha256(tmp_path / "plain")


@pytest.mark.parametrize("name", ["adapter_config.json", "shard-00000-model-00000-of-00001.safetensors"])
def test_what_transformers_would_load_beside_the_weights_is_refused(name: str, tmp_path: Path) -> None:
    write_layout(tmp_path, ["model.safetensors", name])
    with pytest.raises(ModelError, match="holds a (peft adapter|distributed checkpoint) .* which transformers would"):
        weights_sha256(tmp_path)


@pytest.fixture
def model(home: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(home / "model", tmp_path / "model"))


def spoil(path: Path, how: str) -> None:
    whole = path.read_bytes()
    path.unlink()
    if how == "FIFO":
        os.mkfifo(path)
    elif how == "device":
        path.symlink_to("/dev/zero")
    elif how == "folder":
        path.mkdir()
    elif how == "dangling link":
        path.symlink_to("nowhere")
    elif how == "LFS":
        path.write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 173592\n")
    else:
        path.write_bytes(whole[: int(len(whole) * float(how))])


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("FIFO", "model.safetensors is a FIFO, expected regular files alone. Put a file"),
        ("device", "model.safetensors is a device, expected regular files"),
        ("folder", "model.safetensors is a folder, expected a regular file with weights. Fetch"),
        ("dangling link", "model.safetensors is a link to nowhere, which does not exist, expected a regular file"),
        ("LFS", "model.safetensors is a pointer of Git LFS .run git lfs pull., expected the weights of a model"),
        ("0.0", "model.safetensors of 0 bytes is damaged or truncated .* expected the weights of a model. Fetch the"),
        ("0.01", r"model.safetensors of \d+ bytes is damaged or truncated"),
        ("0.9", r"model.safetensors of \d+ bytes is damaged or truncated"),
    ],
)
def test_weights_that_are_no_whole_regular_file_are_refused(how: str, message: str, model: Path) -> None:
    spoil(model / "model.safetensors", how)
    with pytest.raises(ModelError, match=message):
        inspect_model(task_plan(), model.parent)
    if how in ("FIFO", "device"):  # as an export hashes them, whose folder no preflight has seen
        with pytest.raises(ModelError, match=message):
            weights_sha256(model)


@pytest.mark.parametrize("how", ["0.0", "0.5"])
def test_a_truncated_pickle_is_refused(how: str, model: Path) -> None:
    import torch
    from safetensors.torch import load_file

    torch.save(load_file(model / "model.safetensors"), model / "pytorch_model.bin")
    (model / "model.safetensors").unlink()
    assert inspect_model(task_plan(), model.parent).missing == ()
    spoil(model / "pytorch_model.bin", how)
    with pytest.raises(ModelError, match=r"pytorch_model.bin of \d+ bytes is damaged or truncated, expected the weig"):
        inspect_model(task_plan(), model.parent)


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "modules.json"])
def test_no_file_of_a_model_is_read_for_ever(name: str, model: Path) -> None:
    (model / name).unlink(missing_ok=True)
    os.mkfifo(model / name)
    with pytest.raises(ModelError, match=f"{name} is a FIFO, expected regular files"):
        inspect_model(task_plan(), model.parent)
