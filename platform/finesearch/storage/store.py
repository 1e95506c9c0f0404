"""Interface of stores for runs: a folder (:mod:`local_store`) or an object store (:mod:`object_store`).

A store pickles, and is opened by its address where it is used. Where the two need different code, there are two
classes: a trial's ``CheckpointStore`` and a driver's ``RunStorage`` each have a counterpart for object stores.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from finesearch.errors import FinesearchError


@dataclass(frozen=True, eq=False)
class LocalCopy:
    """The files of a store in a local folder: for an object store a copy, which is deleted with this object; for a
    folder, the folder itself."""

    folder: Path
    shown: str

    @contextmanager
    def errors_naming_store(self) -> Iterator[Path]:
        """The folder; errors in the block name the store instead."""
        try:
            yield self.folder
        except FinesearchError as error:
            if str(self.folder) == self.shown or str(self.folder) not in error.message:
                raise
            raise type(error)(error.message.replace(str(self.folder), self.shown)) from error


class Store(ABC):
    """A folder, or a "folder" of an object store.

    Raises:
        StorageError: from every method, where the store refuses, cannot be written or does not answer.
    """

    # -- names -------------------------------------------------------------------------------------------------------

    @property
    @abstractmethod
    def folder(self) -> Path | None:
        """This store's folder; None for an object store."""

    @property
    @abstractmethod
    def address(self) -> str:
        """The path or URI for ``open_store``."""

    @property
    @abstractmethod
    def shown(self) -> str:
        """The address as messages show it: without possible secrets."""

    @property
    @abstractmethod
    def name(self) -> str:
        """Last part of the address."""

    @abstractmethod
    def child(self, *names: str) -> Store:
        """A store below this one."""

    @abstractmethod
    def relative(self, address: str) -> str:
        """An address relative to this store; in full where it is elsewhere."""

    @abstractmethod
    def resolve(self, name: str) -> str:
        """The address of a name from :meth:`relative`."""

    # -- files -------------------------------------------------------------------------------------------------------

    @abstractmethod
    def read(self, name: str) -> bytes | None:
        """Content of the file ``name``; None where there is none."""

    @abstractmethod
    def write(self, name: str, content: bytes) -> None:
        """Write the file ``name`` atomically; it is durable when this returns."""

    @abstractmethod
    def delete_file(self, name: str) -> None:
        """Delete one file; it need not exist."""

    # -- folders -----------------------------------------------------------------------------------------------------

    @abstractmethod
    def folders(self) -> set[str]:
        """Names of the folders here."""

    @abstractmethod
    def delete(self) -> None:
        """Delete everything here."""

    @abstractmethod
    def set_aside(self, last: str) -> None:
        """Move everything to the first free ``NAME.old-N`` beside this; the file ``last`` goes last."""

    @abstractmethod
    def local_copy(self) -> LocalCopy:
        """The files here in a folder of this machine."""

    @abstractmethod
    def claim_number(self) -> int:
        """A number from 1 that no other process has claimed here, or ever will.

        Raises:
            OSError: a folder cannot be written.
        """

    # -- access and space --------------------------------------------------------------------------------------------

    @abstractmethod
    def probe(self) -> None:
        """Write something here and delete it again.

        Raises:
            OSError: a folder cannot be written.
        """

    def check(self) -> None:
        """Create the folder if needed, and check that this machine may write here.

        Raises:
            StorageError: it may not; the message says what to do.
        """
        self.probe()

    def existing(self) -> Store:
        """This store, or its nearest existing parent."""
        return self

    def free_bytes(self) -> float:
        """Bytes that can still be written; infinite where unknown."""
        return float("inf")
