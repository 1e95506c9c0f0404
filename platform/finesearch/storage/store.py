"""What every place to keep a run in can do: a folder (:mod:`local_store`) or an object store (:mod:`object_store`).

A store pickles, and is opened by its address where it is used. Where the two differ in kind, the difference has a name
of its own: a trial's ``CheckpointStore`` and a driver's ``RunStorage`` each have a twin for object stores.
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
    """The files of a store in a folder: of an object store a copy, which goes when nobody holds this any more; of a
    folder, itself."""

    folder: Path
    shown: str

    @contextmanager
    def errors_naming_store(self) -> Iterator[Path]:
        """The folder; errors within name the store in its place."""
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
        """The folder that this is; None for an object store."""

    @property
    @abstractmethod
    def address(self) -> str:
        """The path or URI that ``open_store`` finds it by."""

    @property
    @abstractmethod
    def shown(self) -> str:
        """The address as messages show it: without what could be a secret."""

    @property
    @abstractmethod
    def name(self) -> str:
        """Last part of the address."""

    @abstractmethod
    def child(self, *names: str) -> Store:
        """A store below this one."""

    @abstractmethod
    def relative(self, address: str) -> str:
        """An address as it is named from here; in full where it lies elsewhere."""

    @abstractmethod
    def resolve(self, name: str) -> str:
        """The address of what :meth:`relative` has named."""

    # -- files -------------------------------------------------------------------------------------------------------

    @abstractmethod
    def read(self, name: str) -> bytes | None:
        """Content of the file ``name``; None where there is none."""

    @abstractmethod
    def write(self, name: str, content: bytes) -> None:
        """Write the file ``name``, whole or not at all; when this returns it is durable."""

    @abstractmethod
    def delete_file(self, name: str) -> None:
        """Delete one file; it need not be there."""

    # -- folders -----------------------------------------------------------------------------------------------------

    @abstractmethod
    def folders(self) -> set[str]:
        """Names of the folders that are there."""

    @abstractmethod
    def delete(self) -> None:
        """Delete everything that is here."""

    @abstractmethod
    def set_aside(self, last: str) -> None:
        """Move everything to the first ``NAME.old-N`` beside this that is free; the file ``last`` goes last."""

    @abstractmethod
    def local_copy(self) -> LocalCopy:
        """What is here as a folder of this machine."""

    @abstractmethod
    def claim_number(self) -> int:
        """A number from 1 that nobody else has claimed here, nor ever will.

        Raises:
            OSError: a folder cannot be written.
        """

    # -- what can be kept here ---------------------------------------------------------------------------------------

    @abstractmethod
    def probe(self) -> None:
        """Write something here and delete it again.

        Raises:
            OSError: a folder cannot be written.
        """

    def check(self) -> None:
        """Make what has to be there, and see that this machine may write here.

        Raises:
            StorageError: where not; the message says what to do.
        """
        self.probe()

    def existing(self) -> Store:
        """This, or what is there of the way to it."""
        return self

    def free_bytes(self) -> float:
        """What can still be written; infinite where nobody knows."""
        return float("inf")
