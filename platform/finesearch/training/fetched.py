"""A checkpoint's files on this machine, wherever the checkpoint is kept."""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from finesearch.errors import FinesearchError
from finesearch.storage import Place, is_remote
from finesearch.training.scratch import Scratch


class Fetched:
    """Of a checkpoint in an object store a copy, which goes when nobody holds this any more; of a folder, itself.

    Raises:
        StorageError: the store refuses or does not answer.
    """

    def __init__(self, address: str | Path) -> None:
        self._address = str(address)
        if not is_remote(address):
            self.folder = Path(address)
            return
        place, scratch = Place(self._address), Scratch()
        weakref.finalize(self, scratch.close)
        self.folder = scratch.folder(place.name)
        place.download(self.folder)

    @contextmanager
    def told_by_address(self) -> Iterator[Path]:
        """The folder; errors within name the address in its place."""
        try:
            yield self.folder
        except FinesearchError as error:
            if is_remote(self._address) and str(self.folder) in error.message:
                shown = Place(self._address).shown
                raise type(error)(error.message.replace(str(self.folder), shown)) from error
            raise
