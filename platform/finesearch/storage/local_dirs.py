"""Folders of this machine for working state and caches, and the default folder of results."""

from __future__ import annotations

import hashlib
import os
from fnmatch import fnmatch
from pathlib import Path

NODE_CACHE = "~cache"
"""Placeholder at the start of a path for the cache folder of the machine that reads it."""


def cache_home() -> Path:
    """Folder for files that may be deleted at any time: below ``$XDG_CACHE_HOME``, or ``~/.cache``."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "finesearch")


def state_home() -> Path:
    """Folder for files that are kept until the run ends: below ``$XDG_STATE_HOME``, or ``~/.local/state``."""
    return Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state", "finesearch")


def keyed(name: str, place: str) -> str:
    """A folder name that is unique to run ``name`` in ``place``, among runs of that name elsewhere.

    >>> keyed("sst2", "s3://bucket/runs/sst2")
    'sst2-6759ae1214'
    """
    return f"{name}-{hashlib.sha256(place.encode()).hexdigest()[:10]}"


def on_this_node(path: str) -> Path:
    """A path from another machine, with :data:`NODE_CACHE` replaced by this machine's cache folder.

    >>> on_this_node("/mnt/shared/runs").as_posix()
    '/mnt/shared/runs'
    """
    head, _, rest = path.partition("/")
    return cache_home() / rest if head == NODE_CACHE else Path(path)


UPLOADED = "working_dir_files"
"""The folder into which Ray unpacks the ``--working-dir`` of a job, and from which it deletes it again."""


def is_uploaded(folder: Path) -> bool:
    """Whether a folder is a job's own copy of the directory that it was submitted from.

    >>> is_uploaded(Path("/tmp/ray/session_1/runtime_resources/working_dir_files/_ray_pkg_1"))
    True
    >>> is_uploaded(Path("/home/ada/project"))
    False
    """
    return UPLOADED in folder.parts


SECRETS = (
    ".env", ".env.*", ".netrc", ".pgpass", ".pypirc", ".aws", ".ssh", ".kube", "*.pem", "*.key", "id_rsa*",
    "id_ed25519*", "kubeconfig*", "*service-account*.json", "*service_account*.json", "*credentials*.json",
)  # fmt: skip
"""Names of files and folders that hold keys; ``.rayignore`` leaves them out of a job's upload."""
MOST_LOOKED_AT = 20_000


def uploaded_secrets(folder: Path) -> list[str]:
    """Files with keys in a job's copy of its directory, by relative path: whoever may read the cluster reads them.

    A directory without our ``.rayignore`` brings all that lies in it. Looks at up to ``MOST_LOOKED_AT`` names.
    """
    found: list[str] = []
    looked = 0
    for top, folders, files in os.walk(folder):
        looked += len(folders) + len(files)
        if looked > MOST_LOOKED_AT:
            break
        names = [name for name in (*folders, *files) if any(fnmatch(name, pattern) for pattern in SECRETS)]
        found += [str(Path(top, name).relative_to(folder)) for name in names]
    return sorted(found)


def results_home() -> Path:
    """The folder that relative result folders start from: the working directory.

    In a job that brought its working directory along, ``~/finesearch`` of the node that runs it: Ray deletes its copy
    of the directory, and the next submission of the same search would not find the results.
    """
    here = Path.cwd()
    return Path.home() / "finesearch" if is_uploaded(here) else here
