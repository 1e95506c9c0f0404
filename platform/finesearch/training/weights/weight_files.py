"""The files that transformers loads from a model's folder, by its own order of preference, and their SHA-256.

A file beside them changes nothing, so it must not change the hash; and what they hold must not change without it. So
the same files are hashed that are loaded, an index cannot name files outside of the folder, and a folder from which
transformers would load something more, such as an adapter, is refused.
"""

from __future__ import annotations

import hashlib
import json
import stat
import zipfile
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from finesearch.errors import ModelError
from finesearch.storage.checksummed_dirs import file_sha256

WEIGHT_NAMES = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)
"""What transformers looks for, in its order; the first that there is holds the weights, or names the files that do."""
INDEX = ".index.json"
SAFETENSORS = ".safetensors"
ADAPTER = "adapter_config.json"
DISTRIBUTED = "shard-?????-model-?????-of-?????.safetensors"
NAMED_FIELD = "transformers_weights"
"""The field of ``config.json`` by which it names the file of weights itself."""
FETCH = "Fetch the model again."
_LFS = b"version https://git-lfs"
_ZIP = b"PK"


def weight_files(folder: Path) -> list[Path]:
    """The files that hold the weights, in the order in which they are loaded.

    Raises:
        ModelError: there are none, or what there is cannot be loaded as it stands: no regular files, an index that is
            malformed or leaves the folder, an adapter beside the weights.
    """
    check_regular_files(folder)
    _refuse_more_than_weights(folder)
    name = _name_of_weights(folder)
    return _shards(folder, name) if name.endswith(INDEX) else [folder / name]


def weights_sha256(folder: Path) -> str:
    """SHA-256 over the weight files, whatever their names; it identifies the base model.

    Raises:
        ModelError: see ``weight_files``.
    """
    return hashlib.sha256("".join(file_sha256(path) for path in weight_files(folder)).encode()).hexdigest()


def holds_bf16_alone(folder: Path) -> bool:
    """Whether every tensor of floating-point numbers in the folder is in bf16; False where headers do not tell."""
    from safetensors import safe_open

    types = set()
    for path in weight_files(folder):
        if not path.name.endswith(SAFETENSORS):
            return False
        with safe_open(path, framework="np") as file:
            types |= {file.get_slice(name).get_dtype() for name in file.keys()}  # noqa: SIM118 - it has no __iter__
    return {each for each in types if "F" in each} == {"BF16"}


def check_regular_files(folder: Path) -> None:
    """Check that a model's folder holds nothing that could be read for ever, such as a FIFO or a link to a device.

    Raises:
        ModelError: it does, or it cannot be listed.
    """
    try:
        for path in sorted(folder.iterdir()):
            if path.exists() and not (path.is_file() or path.is_dir()):
                raise ModelError(
                    f"task.model: {path} is {_kind(path)}, expected regular files alone. Put a file in its place, or "
                    f"move it away."
                )
    except OSError as error:
        raise ModelError(
            f"task.model: {folder} cannot be listed ({type(error).__name__}). Make it readable."
        ) from error


def check_readable(files: Sequence[Path]) -> None:
    """Check that each weight file is whole, by its first and last bytes and its header.

    Raises:
        ModelError: one is not; its name, and what it holds.
    """
    for path in files:
        try:
            problem = _problem(path)
        except OSError as error:
            problem = f"cannot be read ({type(error).__name__})"
        if problem is not None:
            raise ModelError(f"task.model: {path} {problem}, expected the weights of a model. {FETCH}")


def _name_of_weights(folder: Path) -> str:
    named = _field_of_config(folder, NAMED_FIELD)
    if named is not None:
        if not _is_inside(named) or not str(named).endswith((SAFETENSORS, SAFETENSORS + INDEX)):
            raise ModelError(
                f"task.model: {folder / 'config.json'} names the weights ({NAMED_FIELD}) as {named!r}, expected a "
                f"*.safetensors file in its own folder, or its index. Correct it, or take the field out."
            )
        return str(_existing(folder / named).relative_to(folder))
    for name in WEIGHT_NAMES:
        path = folder / name
        # transformers passes over what is no regular file, and then loads another file than the one that is meant.
        if path.is_symlink() or path.exists():
            return _existing(path).name
    there = ", ".join(sorted(path.name for path in folder.iterdir())) or "nothing"
    raise ModelError(
        f"task.model: {folder} has no weights: expected one of {', '.join(WEIGHT_NAMES)}, found {there}. "
        f"Point task.model at a folder that save_pretrained wrote."
    )


def _shards(folder: Path, name: str) -> list[Path]:
    """The files that an index names, sorted by name, as transformers loads them."""
    index = folder / name
    try:
        content = json.loads(index.read_bytes())
        names = set(content["weight_map"].values())
        is_index = bool(names) and isinstance(content["metadata"], dict)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise _no_index(index, type(error).__name__) from error
    if not is_index:
        raise _no_index(index, "it names no file, or its metadata is no object")
    outside = [shard for shard in names if not _is_inside(shard)]
    if outside:
        raise ModelError(
            f"task.model: {index} names {outside[0]!r}, expected files in {folder} alone. Put the shards beside the "
            f"index, and write their names without a path."
        )
    return [_existing(folder / shard, index) for shard in sorted(names)]


def _no_index(index: Path, why: str) -> ModelError:
    return ModelError(
        f"task.model: {index} is no index of weight files ({why}): expected an object with metadata, and with "
        f"weight_map from the names of tensors to those of files. {FETCH}"
    )


def _existing(path: Path, index: Path | None = None) -> Path:
    if path.is_file():
        return path
    named = "" if index is None else f", which {index.name} names,"
    if path.is_dir():
        is_what = "is a folder"
    elif path.is_symlink():
        is_what = f"is a link to {path.readlink()}, which does not exist"
    else:
        is_what = "does not exist"
    raise ModelError(f"task.model: {path}{named} {is_what}, expected a regular file with weights. {FETCH}")


def _is_inside(name: Any) -> bool:
    """Whether a name stays in its folder; links may leave it, as those of the hub's cache do."""
    if not isinstance(name, str) or not name or "\0" in name:
        return False
    path = PurePosixPath(name)
    return not path.is_absolute() and ".." not in path.parts


def _refuse_more_than_weights(folder: Path) -> None:
    if (folder / ADAPTER).exists():
        raise ModelError(
            f"task.model: {folder} holds a peft adapter ({ADAPTER}), which transformers would put on the model, and "
            f"finesearch trains plain weights. Merge it into them (peft: merge_and_unload(), then save_pretrained), or "
            f"move the adapter's files away."
        )
    if any(folder.glob(DISTRIBUTED)):
        raise ModelError(
            f"task.model: {folder} holds a distributed checkpoint ({DISTRIBUTED}), which transformers would load "
            f"instead of other weights. Convert it to model.safetensors, or move its files away."
        )


def _field_of_config(folder: Path, name: str) -> Any:
    """A field of config.json; None where there is none, or no such file: ``read_config`` says so."""
    try:
        content = json.loads((folder / "config.json").read_bytes())
    except (OSError, ValueError, RecursionError):
        return None
    return content.get(name) if isinstance(content, dict) else None


def _problem(path: Path) -> str | None:
    from safetensors import SafetensorError, safe_open

    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(len(_LFS))
    if start == _LFS:
        return "is a pointer of Git LFS (run git lfs pull)"
    if path.name.endswith(SAFETENSORS):
        try:
            with safe_open(path, framework="np"):
                return None
        except SafetensorError as error:
            return f"of {size} bytes is damaged or truncated ({error})"
    if not size or (start.startswith(_ZIP) and not zipfile.is_zipfile(path)):
        return f"of {size} bytes is damaged or truncated"
    return None


def _kind(path: Path) -> str:
    mode = path.stat().st_mode
    if stat.S_ISFIFO(mode):
        return "a FIFO"
    return "a socket" if stat.S_ISSOCK(mode) else "a device"
