"""Patterns such as ``data/train-*.jsonl`` in the plan's lists of files."""

from __future__ import annotations

import glob
from collections.abc import Sequence
from pathlib import Path

from finesearch.errors import DataError


def matching_files(names: Sequence[str], base: Path, split: str) -> tuple[list[str], list[str]]:
    """The files that names and patterns stand for, each once, those of a pattern in the order of their names; notes.

    ``*`` and ``?`` match within a folder, ``**`` folders at any depth; a name that exists as it is written is no
    pattern.

    Raises:
        DataError: a pattern that matches no file.
    """
    files: dict[str, None] = {}
    notes = []
    for name in names:
        path = Path(name).expanduser()
        if not glob.has_magic(name) or (base / path).exists():
            files[name] = None
            continue
        found = sorted(each for each in glob.glob(str(path), root_dir=base, recursive=True) if (base / each).is_file())
        if not found:
            raise DataError(
                f"{name}: no file matches (the {split} split, looked for from {base.resolve()}).\n"
                f"  Correct `data.{split}`: * and ? match within a folder, ** folders at any depth."
            )
        files.update(dict.fromkeys(found))
        shown = ", ".join(found) if len(found) <= 3 else f"{found[0]}, {found[1]}, ..., {found[-1]}"
        notes.append(f"task.data.{split} {name}: {len(found)} file{'s' if len(found) != 1 else ''} ({shown}).")
    return list(files), notes
