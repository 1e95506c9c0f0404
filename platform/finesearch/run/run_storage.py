"""Storage of one run: where its files, its checkpoints and its study are kept, and how it is locked.

storage        identity.json, plan.yaml,       checkpoints/   study            locked by
               choices.json, scores/,
               ranked.json, report.json
a folder       there                             there          there, SQLite    flock
  on a cluster that is joined                                   here, copied there
s3://, gs://   here, copied there                there          here, copied there    flock here, lease there
any of them, with a database                                    in the database

A joined cluster has several nodes, or may get them: its storage is then a mount, on which SQLite is not safe. The
number of nodes at the start does not decide, since nodes come and go; joining does.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from finesearch.errors import FinesearchError, RunConflictError, StorageError
from finesearch.plan import Plan
from finesearch.run.run_files import parse_run_file
from finesearch.storage.atomic_files import storage_errors
from finesearch.storage.local_dirs import keyed, results_home, state_home
from finesearch.storage.local_store import LocalStore
from finesearch.storage.open_store import open_store
from finesearch.storage.private_dirs import make_run_folder, refuse_strangers_folder
from finesearch.storage.run_lease import RunLease
from finesearch.storage.run_lock import RunLock
from finesearch.storage.store import Store
from finesearch.tuning.study.study_backup import STUDY, StudyBackup
from finesearch.tuning.study.study_storage import OpenStudy, new_study_name, open_database, open_storage

PLAN, SCORES, NAMED = "plan.yaml", "scores", "study.json"
RANKED, REPORT, CHOICES, IDENTITY = "ranked.json", "report.json", "choices.json", "identity.json"


@dataclass
class RunStorage:
    """Storage of a run in the folder in which its driver works; see :func:`remote_run.run_storage_of`."""

    name: str
    folder: Path
    database: str | None = None
    joins: bool = False
    _lease: RunLease | None = None

    @property
    def store(self) -> Store:
        """The store of the run, which every node must reach."""
        return LocalStore(self.folder)

    @property
    def shown(self) -> str:
        return self.store.shown

    @property
    def report_argument(self) -> str:
        """The run's argument in the command that rebuilds its report."""
        return self.folder.name

    @property
    def cache(self) -> str:
        """Folder for tokens, as passed to workers: beside the run where all nodes mount it, else each node's own."""
        return str(self.folder / "cache")

    @property
    def study_folder(self) -> Path | None:
        """Folder of this machine with the study, if storage only has a copy of it; else None."""
        return state_home() / "runs" / keyed(self.name, str(self.folder)) if self.joins else None

    @cached_property
    def backup(self) -> StudyBackup | None:
        """Backup of a study that is on this machine, with a copy in storage; else None."""
        if self.database is not None or self.study_folder is None:
            return None
        return StudyBackup(self.study_folder, self.store)

    # -- beginning ---------------------------------------------------------------------------------------------------

    def prepare(self) -> None:
        """Create the folder and check that it and storage are writable.

        Raises:
            StorageError: one cannot be written.
        """
        LocalStore(self.folder).existing()
        with storage_errors(self.folder):
            make_run_folder(self.folder)
        LocalStore(self.folder).check()

    @contextmanager
    def exclusive(self, say: Callable[[str], None] = lambda _: None) -> Iterator[None]:
        """Lock the run against other drivers.

        Raises:
            RunConflictError: another driver holds it.
            StorageError: the folder is another user's, or everybody may write it.
        """
        refuse_strangers_folder(self.folder)
        with RunLock(self.folder):
            yield

    @contextmanager
    def locked(self, say: Callable[[str], None]) -> Iterator[None]:
        """:meth:`exclusive`, with the run's files from storage in the folder."""
        with self.exclusive(say):
            self.fetch()
            yield

    def reading(self) -> AbstractContextManager[None]:
        """Read the run: its files from storage are in the folder and do not change.

        Raises:
            RunConflictError: a driver is working on it.
        """
        return self.exclusive()

    def fetch(self) -> None:
        """Copy the run's files from storage to the folder."""

    def archive(self) -> None:
        """Rename an existing run, so that --fresh loses nothing.

        Raises:
            RunConflictError: a driver is working on it.
        """
        if self.store.read(PLAN) is None:
            return
        make_run_folder(self.folder)
        with self.exclusive():
            self.store.set_aside(last=PLAN)

    # -- the study ---------------------------------------------------------------------------------------------------

    def open_study(self) -> OpenStudy:
        """Open the run's study.

        Raises:
            RunConflictError: the run was begun with its study elsewhere.
            StorageError: it cannot be opened.
        """
        self._check_study_location()
        if self.database is not None:
            return OpenStudy(open_database(self.database), self._study_name())
        if self.backup is None:
            return OpenStudy(open_storage(self.folder / STUDY), self.name)
        self.backup.fetch()
        return OpenStudy(open_storage(self.backup.path), self.name)

    def _check_study_location(self) -> None:
        is_named = (self.folder / NAMED).exists()
        if self.database is None and is_named:
            raise RunConflictError(
                f"{self.shown}: this run keeps its study in a database. Give its URL by `study` in the plan or by "
                "FINESEARCH_STUDY, or start over with --fresh (the old run is set aside)."
            )
        if self.database is not None and not is_named and self.store.read(STUDY) is not None:
            raise RunConflictError(
                f"{self.shown}: this run keeps its study in {STUDY}, and a database was given by `study` or "
                "FINESEARCH_STUDY. Leave it out, or start over with --fresh (the old run is set aside)."
            )

    def _study_name(self) -> str:
        path = self.folder / NAMED
        if path.exists():
            return parse_run_file(path.read_bytes(), path, dict[str, str], "the name of this run's study").get(
                "study", ""
            )
        name = new_study_name(self.name)
        self.write(NAMED, json.dumps({"study": name}).encode())
        return name

    # -- keeping -----------------------------------------------------------------------------------------------------

    def write(self, name: str, content: bytes) -> None:
        """Write a file of the run, whole or not at all."""
        LocalStore(self.folder).write(name, content)
        self.persist(name)

    def persist(self, *names: str) -> None:
        """Copy these files and folders of the run from the folder to storage."""

    @contextmanager
    def watched(self, abort: Callable[[FinesearchError], None]) -> Iterator[None]:
        """Keep the study's copy up to date; calls ``abort`` when another driver has taken over."""
        if self._lease is not None:
            self._lease.on_lost = abort
        if self.backup is None:
            yield
            return
        self.backup.persist()
        self.backup.start()
        try:
            yield
        finally:
            self.backup.stop()

    def close_on_signal(self) -> None:
        """Back up the study and release the lease before the process ends by a signal; storage errors are ignored."""
        try:
            if self.backup is not None:
                self.backup.persist()
            if self._lease is not None:
                self._lease.release()
        except StorageError:
            return


def run_store(plan: Plan) -> Store:
    """The store of a plan's run; a relative ``storage`` starts from ``results_home()``.

    Raises:
        PlanError: ``storage`` is a URI that cannot be used.
    """
    return open_store(plan.storage, results_home()).child(plan.name)


def run_folder(plan: Plan) -> Path:
    """The run's folder on this machine; for a run in an object store, the working folder of its driver here.

    Raises:
        PlanError: ``storage`` is a URI that cannot be used.
    """
    store = run_store(plan)
    return store.folder or state_home() / "runs" / keyed(plan.name, store.address)
