"""Which pooling a model's folder asks for, and whether it normalizes, by the files of sentence-transformers in it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

# sentence-transformers' names, as flags of older files ("pooling_mode_mean_tokens": true) and as values of newer ones.
_NAMES = {
    "cls": "cls",
    "cls_token": "cls",
    "mean": "mean",
    "mean_tokens": "mean",
    "max": "max",
    "max_tokens": "max",
    "lasttoken": "last",
}
MODULES = "modules.json"
DEFAULT_PATH = "1_Pooling"


def folder_pooling(folder: Path) -> str | None:
    """One of ``POOLINGS``, or sentence-transformers' own name of another one (joined by ``+``); None: says nothing."""
    config = _read(folder / _pooling_path(folder) / "config.json")
    if not isinstance(config, dict):
        return None
    modes = config.get("pooling_mode")
    if isinstance(modes, str):
        modes = modes.split("+")
    elif not isinstance(modes, list | tuple):
        modes = [key.removeprefix("pooling_mode_") for key in config if key.startswith("pooling_mode_") and config[key]]
    names = [_NAMES.get(str(mode), str(mode)) for mode in modes]
    return "+".join(names) or None


def folder_normalizes(folder: Path) -> bool:
    """Whether the folder's pooled states are to be scaled to length 1: a module ``Normalize`` right after the pooling.

    After another module, such as ``Dense``, it does not count: that module is not part of the classifier.
    """
    kinds = [str(module.get("type", "")).rsplit(".", 1)[-1] for module in _modules(folder)]
    return ("Pooling", "Normalize") in zip(kinds, kinds[1:], strict=False)


def _pooling_path(folder: Path) -> str:
    for module in _modules(folder):
        if str(module.get("type", "")).endswith("Pooling"):
            return str(module.get("path", DEFAULT_PATH))
    return DEFAULT_PATH


def _modules(folder: Path) -> list[dict[str, Any]]:
    modules = _read(folder / MODULES)
    return [module for module in modules if isinstance(module, dict)] if isinstance(modules, list) else []


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_bytes()) if path.is_file() else None
    except (OSError, ValueError, RecursionError):
        return None
