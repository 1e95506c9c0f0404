"""Chooses the store of an address: an object store for a URI, else a folder."""

from __future__ import annotations

from pathlib import Path

from finesearch.storage.local_store import LocalStore
from finesearch.storage.object_store import ObjectStore
from finesearch.storage.store import Store


def open_store(address: str | Path, home: Path | None = None) -> Store:
    """The store at a URI or in a folder; accesses nothing yet.

    home: folder that a relative path starts from; None: the working directory.

    >>> open_store("s3://bucket/runs").shown, open_store("file:///mnt/shared/runs", Path("/home/ada")).shown
    ('s3://bucket/runs', '/mnt/shared/runs')

    Raises:
        PlanError: the URI is of another kind, names no bucket, or holds a key.
    """
    path = str(address).removeprefix("file://")
    return ObjectStore(path) if "://" in path else LocalStore((home or Path()) / path)
