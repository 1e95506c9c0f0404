"""Where one run lives: its folder on this machine, its place in an object store if it has one, and its study.

storage        plan.yaml, scores/, ranked.json   checkpoints/   study            locked by
a folder       there                             there          there, SQLite    flock
  on a cluster that is joined                                   here, copied there
s3://, gs://   here, copied there                there          here, copied there    flock here, lease there
any of them, with a database                                    in the database

A cluster that is joined may hold several nodes, or will: its storage is then a mount, on which SQLite is not safe.
Their number at the start says nothing where nodes come and go, so joining alone decides.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from finesearch.errors import FinesearchError, RunConflictError, StorageError
from finesearch.plan import Plan
from finesearch.run.run_paths import prepare_folder, run_folder, run_place
from finesearch.storage.atomic_files import replace_synced, storage_errors
from finesearch.storage.local_dirs import NODE_CACHE, keyed, state_home
from finesearch.storage.object_store import Place
from finesearch.storage.run_lease import RunLease
from finesearch.storage.run_lock import RunLock
from finesearch.tuning.study.study_backup import STUDY, StudyBackup
from finesearch.tuning.study.study_storage import OpenStudy, database_url, new_study_name, open_database, open_storage

PLAN, SCORES, NAMED = "plan.yaml", "scores", "study.json"
RANKED = "ranked.json"


@dataclass
class RunStorage:
    """Found by :func:`run_storage_of`; ``place`` is None where storage is a folder."""

    name: str
    folder: Path
    place: Place | None
    database: str | None = None
    joins: bool = field(default_factory=lambda: bool(os.environ.get("RAY_ADDRESS")))
    _lease: RunLease | None = None

    @property
    def storage(self) -> Path | Place:
        """What every node has to reach."""
        return self.folder if self.place is None else self.place

    @property
    def shown(self) -> str:
        return str(self.folder) if self.place is None else self.place.shown

    @property
    def cache(self) -> str:
        """Folder for tokens, as workers are told: beside the run where all nodes mount it, else each node's own."""
        return str(self.folder / "cache") if self.place is None else f"{NODE_CACHE}/runs/{self.folder.name}"

    @cached_property
    def backup(self) -> StudyBackup | None:
        """Of a study that lies on this machine and in storage."""
        if self.database is not None:
            return None
        if self.place is not None:
            return StudyBackup(self.folder, self.place)
        if self.joins:
            return StudyBackup(state_home() / "runs" / keyed(self.name, str(self.folder)), self.folder)
        return None

    # -- beginning ---------------------------------------------------------------------------------------------------

    def prepare(self) -> None:
        """Make and try the folder and the place.

        Raises:
            StorageError: one cannot be written.
        """
        prepare_folder(self.folder)
        if self.place is not None:
            self.place.check()

    @contextmanager
    def locked(self, say: Callable[[str], None]) -> Iterator[None]:
        """No other driver works on the run meanwhile; what storage holds of it is in the folder.

        Raises:
            RunConflictError: another driver holds it.
        """
        with ExitStack() as stack:
            stack.enter_context(RunLock(self.folder))
            if self.place is not None:
                self._lease = stack.enter_context(RunLease(self.place, self._identity(), say))
                self.fetch()
            yield

    def _identity(self) -> str:
        """A word that this folder alone knows, whichever machine has it."""
        path = self.folder / "home"
        if not path.exists():
            with storage_errors(path):
                replace_synced(path, os.urandom(16).hex().encode())
        return path.read_text(encoding="utf-8")

    def fetch(self) -> None:
        """Have here what the place holds: the folder is a copy."""
        place = self.place
        if place is None:
            return
        for name in (PLAN, RANKED, NAMED):
            content = place.read(name)
            (self.folder / name).unlink(missing_ok=True)
            if content is not None:
                (self.folder / name).write_bytes(content)
        if not (self.folder / PLAN).exists():  # another run of this name had this folder
            shutil.rmtree(self.folder / SCORES, ignore_errors=True)
        # Those that could not be copied there when they were made are still here.
        place.child(SCORES).download(self.folder / SCORES)

    def archive(self) -> None:
        """Rename an existing run, so that --fresh loses nothing.

        Raises:
            RunConflictError: a driver is working on it.
        """
        if self.place is not None:
            self._set_place_aside(self.place)
        elif (self.folder / PLAN).exists():
            with RunLock(self.folder):
                number = 1
                while (old := self.folder.with_name(f"{self.folder.name}.old-{number}")).exists():
                    number += 1
                self.folder.rename(old)

    def _set_place_aside(self, place: Place) -> None:
        if place.read(PLAN) is None:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        with RunLock(self.folder), RunLease(place, self._identity()):
            number = 1
            while (old := place.beside(f"{place.name}.old-{number}")).read(PLAN) is not None:
                number += 1
            place.move(old, last=PLAN)

    # -- the study ---------------------------------------------------------------------------------------------------

    def open_study(self) -> OpenStudy:
        """Where the run's study is kept.

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
        if self.database is not None and not is_named and self._has_sqlite():
            raise RunConflictError(
                f"{self.shown}: this run keeps its study in {STUDY}, and a database was given by `study` or "
                "FINESEARCH_STUDY. Leave it out, or start over with --fresh (the old run is set aside)."
            )

    def _has_sqlite(self) -> bool:
        return (self.folder / STUDY).exists() if self.place is None else self.place.read(STUDY) is not None

    def _study_name(self) -> str:
        path = self.folder / NAMED
        if path.exists():
            return str(json.loads(path.read_text(encoding="utf-8"))["study"])
        name = new_study_name(self.name)
        with storage_errors(path):
            replace_synced(path, json.dumps({"study": name}).encode())
        self.persist(NAMED)
        return name

    # -- keeping -----------------------------------------------------------------------------------------------------

    def persist(self, *names: str) -> None:
        """Copy files and folders of the run to its place, where it has one."""
        for name in names if self.place is not None else ():
            path = self.folder / name
            if path.is_dir():
                self.place.child(name).upload(path)  # type: ignore[union-attr]
            elif path.exists():
                self.place.upload_file(path, name)  # type: ignore[union-attr]

    @contextmanager
    def watched(self, abort: Callable[[FinesearchError], None]) -> Iterator[None]:
        """The study's copy is kept up to date; ``abort`` is called when another driver has taken over."""
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
        """The last act before the process ends by a signal; it must not take long, and what fails here was told
        before."""
        try:
            if self.backup is not None:
                self.backup.persist()
            if self._lease is not None:
                self._lease.release()
        except StorageError:
            return


def run_storage_of(plan: Plan) -> RunStorage:
    """Where the run of a plan lives.

    Raises:
        PlanError: ``storage`` or the study's URL cannot be used.
    """
    return RunStorage(plan.name, run_folder(plan), run_place(plan), database_url(plan))
