"""The sockets of a Ray that is started here lie in its folder for temporary files, whose path may be too long."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

MOST_BYTES = 107
"""Of the path of a Unix socket on Linux."""
_LONGEST = "ray/session_2026-12-01_03-36-03_123456_4194304/sockets/plasma_store"
"""A socket below that folder; process numbers go to 4194304."""


def ray_temporary_folder(environment: Mapping[str, str] = os.environ) -> str:
    """Where Ray puts its sessions: by its own variable, by ``TMPDIR``, or ``/tmp``."""
    return environment.get("RAY_TMPDIR", environment.get("TMPDIR", "/tmp"))


def socket_problem(environment: Mapping[str, str] = os.environ) -> tuple[str, str] | None:
    """Why Ray could not make its sockets, and what to do; None where it can.

    >>> socket_problem({"TMPDIR": "/tmp"}) is None
    True
    >>> socket_problem({"TMPDIR": "/tmp/" + 60 * "x"})[0][-73:]
    'expected at most 39 bytes, so that its sockets have a path of at most 107'
    """
    folder = ray_temporary_folder(environment)
    room = MOST_BYTES - len(_LONGEST) - 1
    size = len(os.fsencode(folder.rstrip("/")))
    if size > room:
        what = (
            f"Ray's folder for temporary files, {folder}, has a path of {size} bytes, expected at most {room} bytes, "
            f"so that its sockets have a path of at most {MOST_BYTES}"
        )
        return what, "Set RAY_TMPDIR (or TMPDIR) to a folder with a shorter path, such as /tmp."
    if os.path.lexists(folder) and not Path(folder).is_dir():
        what = f"Ray's folder for temporary files, {folder}, is no folder"
        return what, "Set RAY_TMPDIR (or TMPDIR) to a folder that this user may write."
    return None
