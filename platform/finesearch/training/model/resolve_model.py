"""Resolves the plan's ``task.model`` (folder, package:// URI, hub id or GGUF file) to a local model folder."""

from __future__ import annotations

import importlib.util
import re
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path

from finesearch.errors import ModelError
from finesearch.training.model.gguf import SUFFIX, dequantized, gguf_file
from finesearch.training.weights.weight_files import WEIGHT_NAMES, check_regular_files

PACKAGE_SCHEME = "package://"
# Only the files that a model needs are downloaded: no ONNX, TensorFlow or pickled extras.
HUB_PATTERNS = ["*.json", "*.safetensors", "*.txt", "*.model", "*.jinja"]
HUB_ID = re.compile(r"\w[\w.-]*(/\w[\w.-]*)?")


def resolve_model(model: str, base: Path) -> str:
    """The folder that ``model`` names, or the hub id as it stands.

    ``package://name/sub/folder`` is a folder inside an installed package, found without importing the package. Anything
    else is first taken as a folder (relative to ``base``), then as a hub id. A GGUF file may stand in for a folder.

    Raises:
        ModelError: the package is not installed, has no such folder, or ``model`` is neither a folder nor a hub id.
    """
    if model.startswith(PACKAGE_SCHEME):
        return str(_package_folder(model))
    folder = Path(base, Path(model).expanduser())
    if folder.is_dir():
        return str(folder.resolve())
    if folder.is_file() and folder.suffix == SUFFIX:
        return str(folder.resolve())
    if folder.is_file():
        raise ModelError(
            f"task.model: expected a folder with a model in it, or a GGUF file, got the file {folder}. Name the folder "
            f"that holds it."
        )
    if not HUB_ID.fullmatch(model):
        raise ModelError(
            f"task.model: there is no folder {folder}. Expected package://PACKAGE/FOLDER, a folder relative to the "
            f"plan file, or a hub id such as 'google-bert/bert-base-uncased', got {model!r}."
        )
    return model


def model_folder(model: str, revision: str | None, base: Path) -> Path:
    """A local folder with the model's files; a hub id is downloaded into (or found in) the hub's own cache.

    For a GGUF file it is the folder with the dequantized weights.

    Raises:
        ModelError: see ``resolve_model``; or the hub does not have it, or cannot be reached.
    """
    resolved = Path(resolve_model(model, base))
    if resolved.is_file():
        return dequantized(resolved)
    folder = resolved if resolved.is_dir() else _hub_snapshot(str(resolved), revision, base)
    check_regular_files(folder)
    file = gguf_file(folder)
    return folder if file is None else dequantized(file)


def _package_folder(model: str) -> Path:
    package, _, inside = model.removeprefix(PACKAGE_SCHEME).partition("/")
    spec = _find_package(package)
    if spec is None or not spec.submodule_search_locations:
        raise ModelError(
            f"task.model: {model!r} names the package {package!r}, which is not installed here. Install it into the "
            f"environment of every node, or name a folder or a hub id instead."
        )
    root = Path(next(iter(spec.submodule_search_locations)))
    folder = root / inside
    # Neither "..", nor "/etc", nor a link leads out of the package.
    is_within = "\0" not in inside and folder.resolve().is_relative_to(root.resolve())
    if is_within and folder.suffix == SUFFIX and folder.is_file():
        return folder
    if not is_within or not folder.is_dir():
        folders = sorted(p.name for p in root.iterdir() if p.is_dir() and not p.name.startswith(("_", ".")))
        raise ModelError(
            f"task.model: the package {package!r} has no folder {inside!r}. "
            f"Folders in it: {', '.join(folders) or 'none'}."
        )
    return folder


def _find_package(name: str) -> ModuleSpec | None:
    """Where a package lies; ``importlib.util.find_spec`` would import those that it is in."""
    first, *inner = name.split(".")
    try:
        spec = importlib.util.find_spec(first) if first else None
        for end in range(len(inner)):
            if spec is None or spec.submodule_search_locations is None:
                return None
            spec = PathFinder.find_spec(".".join([first, *inner[: end + 1]]), list(spec.submodule_search_locations))
    except (ImportError, ValueError):
        return None
    return spec


def _hub_snapshot(model: str, revision: str | None, base: Path) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        folder = Path(snapshot_download(model, revision=revision, allow_patterns=HUB_PATTERNS))
        # A stray *.safetensors file is not the model.
        if not any((folder / name).exists() for name in WEIGHT_NAMES if ".safetensors" in name):
            folder = Path(snapshot_download(model, revision=revision, allow_patterns=["pytorch_model*.bin*"]))
    except (LocalEntryNotFoundError, HfHubHTTPError, OSError, ValueError) as error:
        wanted = model if revision is None else f"{model} at revision {revision}"
        raise ModelError(
            f"task.model: {wanted} is neither a folder below {base} nor could it be fetched from the hub "
            f"({type(error).__name__}: {_first_line(error)}). Check the name, the revision and the network, or "
            f"fetch it beforehand with 'hf download {model}'."
        ) from error
    return folder


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or "no details").splitlines()[0]
