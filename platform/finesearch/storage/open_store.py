"""``open_store``: the one place that asks whether an address names an object store."""

from __future__ import annotations

from pathlib import Path

from finesearch.storage.local_store import LocalStore
from finesearch.storage.object_store import ObjectStore
from finesearch.storage.store import Store


def open_store(address: str | Path, home: Path | None = None) -> Store:
    """The store at a URI or in a folder; nothing is looked at yet.

    home: what a relative folder is relative to; the working directory where it is None.

    >>> open_store("s3://bucket/runs").shown, open_store("file:///mnt/shared/runs", Path("/home/ada")).shown
    ('s3://bucket/runs', '/mnt/shared/runs')

    Raises:
        PlanError: the URI is of another kind, names no bucket, or holds a key.
    """
    path = str(address).removeprefix("file://")
    return ObjectStore(path) if "://" in path else LocalStore((home or Path()) / path)
