"""Where the checkpoints of a run's trials lie: below a folder, or in an object store."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from finesearch.errors import StorageError
from finesearch.storage.object_store import Place


@dataclass(frozen=True)
class TrialFolders:
    """``checkpoints/`` of a run: one "folder" for each trial."""

    home: Path | Place

    @classmethod
    def of_run(cls, run: Path | Place) -> TrialFolders:
        return cls(run / "checkpoints" if isinstance(run, Path) else run.child("checkpoints"))

    def address(self, name: str) -> str:
        """The folder, or URI, of one trial."""
        return str(self.home / name) if isinstance(self.home, Path) else self.home.child(name).uri

    def names(self) -> set[str]:
        """Names of the folders that are there."""
        if isinstance(self.home, Path):
            return {path.name for path in self.home.iterdir()} if self.home.is_dir() else set()
        return self.home.folders()

    def delete(self, name: str) -> bool:
        """Delete one; False where an object store refused or did not answer."""
        if isinstance(self.home, Path):
            shutil.rmtree(self.home / name, ignore_errors=True)
            return True
        try:
            self.home.child(name).delete()
        except StorageError:
            return False
        return True
