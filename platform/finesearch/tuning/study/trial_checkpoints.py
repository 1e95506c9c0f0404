"""Checkpoints of one trial as the driver finds them in the run's store; for trials that are stopped."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from pydantic import ValidationError

from finesearch.storage.checksummed_dirs import MANIFEST
from finesearch.storage.store import Store
from finesearch.training.checkpointing.checkpoint_layout import NAME, PAUSED, RESUME
from finesearch.training.checkpointing.checkpoint_record import FILE, CheckpointRecord
from finesearch.training.trial_types import Evaluation


@dataclass(frozen=True)
class TrialCheckpoints:
    """The folder of one trial; a trial that runs must not be touched.

    Raises:
        StorageError: from every method, where the store refuses or does not answer.
    """

    store: Store

    def first_of(self, steps: Iterable[int]) -> tuple[int, str] | None:
        """The first of ``steps`` (numbers of evaluations) that has a complete checkpoint, and the name of its folder:
        that of the latest attempt."""
        found = self._by_step()
        for step in steps:
            for name in found.get(step, ()):
                # In an object store a checkpoint is complete once its manifest is there.
                if self.store.child(name).read(MANIFEST) is not None:
                    return step, name
        return None

    def evaluation(self, name: str) -> Evaluation | None:
        """What the checkpoint itself says that it scored; None where it says nothing that can be read.

        An attempt that trains a step again may come to other weights than the one whose evaluation was journaled.
        """
        content = self.store.child(name).read(FILE)
        try:
            return None if content is None else CheckpointRecord.model_validate_json(content).evaluation
        except ValidationError:
            return None

    def address(self, name: str) -> str:
        """Path or URI of a checkpoint."""
        return self.store.child(name).address

    def keep_only(self, name: str) -> None:
        """Delete all but the loadable model of one checkpoint: a trial that will not go on needs no more."""
        for other in self.store.folders():
            if other != name and (NAME.fullmatch(other) or PAUSED.fullmatch(other)):
                self._delete(self.store.child(other))
        self._delete(self.store.child(name, RESUME))

    def keep_newest_state(self, ranked: str | None) -> None:
        """Delete all but the newest checkpoint that can be resumed from and ``ranked``, the name of another one; where
        none can be resumed from, nothing."""
        names = [name for _, group in sorted(self._by_step().items(), reverse=True) for name in group]
        newest = next((name for name in names if self.store.child(name, RESUME).read(MANIFEST) is not None), None)
        if newest is None:
            return
        for other in self.store.folders():
            if other not in (newest, ranked) and (NAME.fullmatch(other) or PAUSED.fullmatch(other)):
                self._delete(self.store.child(other))
        if ranked is not None and ranked != newest:
            self._delete(self.store.child(ranked, RESUME))

    def _by_step(self) -> dict[int, list[str]]:
        """Names of checkpoint folders by evaluation, those of the latest attempt first."""
        matches = [match for match in map(NAME.fullmatch, self.store.folders()) if match]
        found: dict[int, list[str]] = {}
        for match in sorted(matches, key=lambda match: -int(match[2])):
            found.setdefault(int(match[1]), []).append(match[0])
        return found

    def _delete(self, folder: Store) -> None:
        # Without its manifest it is no checkpoint, whatever else is still to be deleted.
        folder.delete_file(MANIFEST)
        folder.delete()
