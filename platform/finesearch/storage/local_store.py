"""Store in a folder, local or mounted by several machines."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from finesearch.errors import StorageError
from finesearch.storage.atomic_files import replace_synced, storage_errors
from finesearch.storage.store import LocalCopy, Store

EXPECTED = "expected a folder that this user may write. Choose another with --storage or `storage:` in the plan."


@dataclass(frozen=True)
class LocalStore(Store):
    """A folder; it need not exist yet."""

    path: Path

    @property
    def folder(self) -> Path:
        return self.path

    @property
    def address(self) -> str:
        return str(self.path)

    @property
    def shown(self) -> str:
        return str(self.path)

    @property
    def name(self) -> str:
        return self.path.name

    def child(self, *names: str) -> LocalStore:
        """A folder below this one.

        >>> LocalStore(Path("runs")).child("sst2", "scores").address
        'runs/sst2/scores'
        """
        return LocalStore(self.path.joinpath(*names))

    def relative(self, address: str) -> str:
        path = Path(address)
        return str(path.relative_to(self.path) if path.is_relative_to(self.path) else path)

    def resolve(self, name: str) -> str:
        return str(self.path / name)

    def read(self, name: str) -> bytes | None:
        file = self.path / name
        with storage_errors(file):
            # A network mount may cache that a name was missing; listing the folder refreshes it.
            if not file.exists() and self.path.is_dir():
                os.listdir(self.path)
            return file.read_bytes() if file.exists() else None

    def write(self, name: str, content: bytes) -> None:
        with storage_errors(self.path / name):
            replace_synced(self.path / name, content)

    def delete_file(self, name: str) -> None:
        with storage_errors(self.path / name):
            (self.path / name).unlink(missing_ok=True)

    def folders(self) -> set[str]:
        with storage_errors(self.path):
            return {entry.name for entry in os.scandir(self.path) if entry.is_dir()} if self.path.is_dir() else set()

    def delete(self) -> None:
        shutil.rmtree(self.path, ignore_errors=True)

    def set_aside(self, last: str) -> None:
        number = 1
        while (old := self.path.with_name(f"{self.name}.old-{number}")).exists():
            number += 1
        self.path.rename(old)

    def local_copy(self) -> LocalCopy:
        return LocalCopy(self.path, self.shown)

    def claim_number(self) -> int:
        """By an exclusive ``mkdir``, so that no two attempts share a number."""
        self.path.mkdir(parents=True, exist_ok=True)
        number = max((int(path.name) for path in self.path.iterdir() if path.name.isdigit()), default=0) + 1
        while True:
            try:
                (self.path / str(number)).mkdir()
            except FileExistsError:
                number += 1
            else:
                return number

    def check(self) -> None:
        with storage_errors(self.path):
            self.existing()
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self.probe()
        except OSError as error:
            raise StorageError(
                f"storage {self.shown}: cannot be written: {error.strerror or error}, {EXPECTED}"
            ) from error

    def probe(self) -> None:
        probe = self.path / f".probe-{os.getpid()}"
        probe.write_bytes(b"finesearch")
        probe.unlink()

    def existing(self) -> LocalStore:
        nearest = self.path.absolute()
        while not os.path.lexists(nearest):
            nearest = nearest.parent
        if not nearest.is_dir():
            raise StorageError(f"storage {self.shown}: {nearest} is a file or a broken link, {EXPECTED}")
        return LocalStore(nearest)

    def free_bytes(self) -> float:
        return shutil.disk_usage(self.existing().path).free
