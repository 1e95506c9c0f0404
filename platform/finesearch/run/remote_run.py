"""Storage of a run in an object store, with a copy of it in a folder of this machine."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from finesearch.plan import Plan
from finesearch.run.run_storage import (
    CHOICES,
    IDENTITY,
    NAMED,
    PLAN,
    RANKED,
    REPORT,
    SCORES,
    RunStorage,
    run_folder,
    run_store,
)
from finesearch.storage.local_dirs import NODE_CACHE
from finesearch.storage.local_store import LocalStore
from finesearch.storage.object_store import ObjectStore
from finesearch.storage.run_lease import RunLease
from finesearch.storage.store import Store
from finesearch.tuning.study.study_storage import database_url


@dataclass(kw_only=True)
class RemoteRunStorage(RunStorage):
    """Storage of a run in an object store; ``folder`` is this machine's copy."""

    remote: ObjectStore

    @property
    def store(self) -> Store:
        return self.remote

    @property
    def report_argument(self) -> str:
        return self.shown

    @property
    def cache(self) -> str:
        return f"{NODE_CACHE}/runs/{self.folder.name}"

    @property
    def study_folder(self) -> Path:
        return self.folder

    def prepare(self) -> None:
        super().prepare()
        self.remote.check()

    @contextmanager
    def exclusive(self, say: Callable[[str], None] = lambda _: None) -> Iterator[None]:
        with super().exclusive(say), RunLease(self.remote, self._home_id(), say) as self._lease:
            yield

    @contextmanager
    def reading(self) -> Iterator[None]:
        self.fetch()
        yield

    def _home_id(self) -> str:
        """A random id of this folder, the same on every machine that mounts it."""
        path = self.folder / "home"
        if not path.exists():
            LocalStore(self.folder).write(path.name, os.urandom(16).hex().encode())
        return path.read_text(encoding="utf-8")

    def fetch(self) -> None:
        for name in (IDENTITY, PLAN, CHOICES, RANKED, REPORT, NAMED):
            content = self.remote.read(name)
            (self.folder / name).unlink(missing_ok=True)
            if content is not None:
                (self.folder / name).write_bytes(content)
        if not (self.folder / PLAN).exists():  # the folder is from another run of this name
            shutil.rmtree(self.folder / SCORES, ignore_errors=True)
        # Scores whose upload failed are still here.
        self.remote.child(SCORES).download(self.folder / SCORES)

    def persist(self, *names: str) -> None:
        for name in names:
            path = self.folder / name
            if path.is_dir():
                self.remote.child(name).upload(path)
            elif path.exists():
                self.remote.upload_file(path, name)


def run_storage_in(
    store: Store, name: str, folder: Path, database: str | None = None, joins: bool = False
) -> RunStorage:
    """Storage of the run in ``store``; ``folder`` is this machine's for a run in an object store."""
    if isinstance(store, ObjectStore):
        return RemoteRunStorage(name, folder, database, joins, remote=store)
    return RunStorage(name, store.folder or folder, database, joins)


def run_storage_of(plan: Plan) -> RunStorage:
    """Storage of the run of a plan.

    Raises:
        PlanError: ``storage`` or the study's URL cannot be used.
    """
    joins = bool(os.environ.get("RAY_ADDRESS"))
    return run_storage_in(run_store(plan), plan.name, run_folder(plan), database_url(plan), joins)
