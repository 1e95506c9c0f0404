"""Where the checkpoints of a run's trials lie: below a folder, or in an object store."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from finesearch.errors import StorageError
from finesearch.storage.object_store import Place


@dataclass(frozen=True)
class CheckpointDirs:
    """``checkpoints/`` of a run: one "folder" for each trial."""

    root: Path | Place

    @classmethod
    def of_run(cls, run: Path | Place) -> CheckpointDirs:
        return cls(run / "checkpoints" if isinstance(run, Path) else run.child("checkpoints"))

    def address(self, name: str) -> str:
        """The folder, or URI, of one trial."""
        return str(self.root / name) if isinstance(self.root, Path) else self.root.child(name).uri

    def names(self) -> set[str]:
        """Names of the folders that are there."""
        if isinstance(self.root, Path):
            return {path.name for path in self.root.iterdir()} if self.root.is_dir() else set()
        return self.root.folders()

    def delete(self, name: str) -> bool:
        """Delete one; False where an object store refused or did not answer."""
        if isinstance(self.root, Path):
            shutil.rmtree(self.root / name, ignore_errors=True)
            return True
        try:
            self.root.child(name).delete()
        except StorageError:
            return False
        return True
