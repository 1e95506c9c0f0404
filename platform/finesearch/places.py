"""Where results go that a plan or a flag names by a relative path."""

from __future__ import annotations

from pathlib import Path

UPLOADED = "working_dir_files"
"""The folder below which Ray unpacks the ``--working-dir`` of a job, and out of which it deletes it again."""


def is_uploaded(folder: Path) -> bool:
    """Whether a folder is a job's own copy of the directory that it was submitted from.

    >>> is_uploaded(Path("/tmp/ray/session_1/runtime_resources/working_dir_files/_ray_pkg_1"))
    True
    >>> is_uploaded(Path("/home/ada/project"))
    False
    """
    return UPLOADED in folder.parts


def results_home() -> Path:
    """What relative result folders are relative to: the working directory.

    In a job that brought its working directory along, ``~/finesearch`` of the node that runs it: what is written into
    the copy goes when Ray clears it away, and the next submission of the same search would not find it.
    """
    here = Path.cwd()
    return Path.home() / "finesearch" if is_uploaded(here) else here
