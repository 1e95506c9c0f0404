"""Reads the JSON files of a run folder; a file that holds something else is named, with what to do."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

from pydantic import TypeAdapter, ValidationError

from finesearch.errors import StorageError

T = TypeVar("T")
RESTORE = "Restore the file from a copy, or start over with --fresh (the old run is set aside)."


def parse_run_file(content: bytes, path: Path | str, form: type[T], what: str, advice: str = RESTORE) -> T:
    """The content of one of a run's JSON files as ``form``, a dataclass or a type of plain values.

    what: what the file holds, in words. advice: what to do where it holds something else.

    Raises:
        StorageError: it holds something else.
    """
    try:
        return TypeAdapter(form).validate_json(content)
    except ValidationError as error:
        raise damaged(path, what, error, advice) from error


def damaged(path: Path | str, what: str, error: ValueError, advice: str = RESTORE) -> StorageError:
    """The error for a file of a run that does not hold ``what`` it should."""
    if isinstance(error, ValidationError):
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        came = f"{place}: {first['msg']}" if place else first["msg"]
    else:
        came = str(error)
    return StorageError(f"{path}: expected {what}, as finesearch wrote it; got something else: {came[:300]}. {advice}")
