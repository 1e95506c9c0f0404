"""Run folders are their owner's alone, unless told otherwise, and those of strangers are refused.

A run holds texts of the data in its scores and token files, and a checkpoint that somebody else wrote is not one that
this search trained.
"""

from __future__ import annotations

import os
import pwd
import stat
from collections.abc import Mapping
from pathlib import Path

from finesearch.errors import InputError, StorageError

MODE, OWNERS = "FINESEARCH_RUN_MODE", "FINESEARCH_RUN_OWNERS"


def run_mode(environment: Mapping[str, str] = os.environ) -> int:
    """Permissions of new run folders: 0700, or what ``FINESEARCH_RUN_MODE`` says in octal.

    >>> oct(run_mode({})), oct(run_mode({"FINESEARCH_RUN_MODE": "0750"}))
    ('0o700', '0o750')

    Raises:
        InputError: it says no permissions with which the owner can work.
    """
    given = environment.get(MODE) or "0700"
    try:
        mode = int(given, 8)
    except ValueError:
        mode = -1
    if mode & 0o700 != 0o700 or not 0 <= mode <= 0o2775 or mode & stat.S_IWOTH:
        raise InputError(
            f"{MODE}: expected permissions in octal that leave all to the owner and no writing to everybody, such as "
            f"0700, 0750 or 2770; got {given!r}."
        )
    return mode


def make_run_folder(folder: Path) -> None:
    """Make the folder of a run, with those above it; one that is there keeps its permissions.

    Raises:
        InputError: see :func:`run_mode`.
        OSError: it cannot be made.
    """
    mode = run_mode()
    folder.parent.mkdir(parents=True, exist_ok=True)
    try:
        folder.mkdir(mode=0o700)
    except FileExistsError:
        return
    folder.chmod(mode)


def refuse_strangers_folder(folder: Path, environment: Mapping[str, str] = os.environ) -> None:
    """Check that a run folder belongs to this user, and that not everybody may write it; one need not exist.

    Mounts may give files to another user than the one that wrote them: ``FINESEARCH_RUN_OWNERS`` names users, by name
    or number, whose folders are taken too.

    Raises:
        StorageError: it belongs to another user, or everybody may write it.
    """
    try:
        found = folder.stat()
    except OSError:
        return
    if found.st_uid != os.geteuid() and not {str(found.st_uid), _name(found.st_uid)} & _named(environment):
        raise StorageError(
            f"{folder}: expected a run of this user ({_name(os.geteuid())}), got one of {_name(found.st_uid)}: its "
            f"checkpoints and scores may be anything. Copy the run, or name its owner in {OWNERS}."
        )
    if found.st_mode & stat.S_IWOTH:
        raise StorageError(
            f"{folder}: everybody may write this run ({stat.S_IMODE(found.st_mode):04o}): its checkpoints and scores "
            f"may be anything. If they are yours: chmod o-w {folder}"
        )


def _named(environment: Mapping[str, str]) -> set[str]:
    return {name.strip() for name in environment.get(OWNERS, "").split(",") if name.strip()}


def _name(user: int) -> str:
    try:
        return pwd.getpwuid(user).pw_name
    except KeyError:
        return str(user)
