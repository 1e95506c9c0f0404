"""Reads folders written by ``datasets``' ``save_to_disk``, and maps common split names to ours."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from finesearch.errors import DataError

if TYPE_CHECKING:
    import datasets

_ALIASES = {"train": ("train",), "validation": ("validation", "valid", "val", "dev"), "test": ("test",)}


def read_folder(folder: str, base: Path) -> dict[str, datasets.Dataset]:
    """Split name as in the folder -> rows, mapped from the folder's Arrow files; a single data set is ``train``.

    Raises:
        DataError: the folder does not exist, or is not a data set.
    """
    import datasets

    path = base / Path(folder).expanduser()
    if not path.is_dir():
        raise DataError(f"{folder}: no such folder (`data.folder`, looked for at {path}).")
    for state in sorted(path.glob("*/state.json")):
        # datasets can save a split without rows, but fails to load it, with an unclear error.
        try:
            has_rows = bool(json.loads(state.read_bytes()).get("_data_files"))
        except (OSError, ValueError, AttributeError, RecursionError) as error:
            raise _not_saved(folder, f"{state.relative_to(path)}: {error}") from error
        if not has_rows:
            raise DataError(
                f"{folder}, split {state.parent.name!r}: the split is empty, expected at least one row.\n"
                "  Save the data set without that split; a missing validation or test split is cut out of train."
            )
    try:
        loaded = datasets.load_from_disk(path)
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise _not_saved(folder, str(error)) from error
    return dict(loaded) if isinstance(loaded, datasets.DatasetDict) else {"train": loaded}


def _not_saved(folder: str, why: str) -> DataError:
    return DataError(
        f"{folder}: not a data set that `datasets` wrote with save_to_disk ({why}).\n"
        "  Files of other formats go under `data.train`, `data.validation` and `data.test`."
    )


def named_splits(present: Mapping[str, datasets.Dataset], source: str) -> tuple[dict[str, str], list[str]]:
    """Our split -> the source's name for it, and a note about unused splits.

    Raises:
        DataError: there is no train split.
    """
    names = {ours: found for ours in _ALIASES if (found := _first(_ALIASES[ours], present)) is not None}
    if "train" not in names:
        raise DataError(f"{source}: no train split, expected one. Splits here: {', '.join(present) or 'none'}.")
    unused = [name for name in present if name not in names.values()]
    return names, [f"{source}: unused splits: {', '.join(unused)}."] if unused else []


def _first(names: Iterable[str], present: Mapping[str, object]) -> str | None:
    return next((name for name in names if name in present), None)
