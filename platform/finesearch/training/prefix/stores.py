"""Finds or computes the kept outputs of a split: on the node's disk, or in the memory of this process."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from finesearch.training.heap import give_freed_pages_back
from finesearch.training.meter import CACHE_MISSES, METER
from finesearch.training.prefix import entries
from finesearch.training.prefix.check import Form
from finesearch.training.prefix.passes import Passes, count_tokens
from finesearch.training.prefix.rows import FileRows, MemoryRows, Rows, RowWriter

if TYPE_CHECKING:
    from torch import Tensor

    from finesearch.data import TokenSplit

SMALLEST_SHARE = 0.1
"""Of a split: where less of it fits into the budget, nothing is kept."""
POLL_S = 0.05


@dataclass(frozen=True, eq=False)
class Wish:
    """What a trial asks for of one split.

    key: of model and split, without the cut. portions: all row numbers, those that are computed together. cuts: what it
    cannot do without. others: what later trials may ask for, the most useful first. forms: of each stack's blocks, by
    the number of blocks that run before it. beat: called while something is computed or waited for.
    """

    key: str
    tokens: TokenSplit
    portions: Sequence[np.ndarray]
    cuts: tuple[int, ...]
    others: tuple[int, ...]
    forms: Mapping[int, Form]
    passes: Passes
    beat: Callable[[], None]

    def rows(self, share: float) -> Iterator[np.ndarray]:
        """The portions, or as many rows of them as make ``share`` of all tokens."""
        allowed = share * float(self.tokens.lengths.sum())
        for portion in self.portions:
            upto = np.cumsum(self.tokens.lengths[portion])
            rows = portion if share >= 1.0 else portion[upto <= allowed]
            allowed -= float(upto[-1])
            if len(rows):
                yield rows

    def bytes(self, cut: int) -> int:
        """What a cut of the whole split takes."""
        stack = self.passes.stack(cut)
        form = self.forms[stack.first]
        return count_tokens(self.tokens, stack.reads_target) * form.width * form.itemsize


class Store(ABC):
    """Where outputs are kept."""

    @abstractmethod
    def find(self, wishes: Mapping[str, Wish]) -> dict[str, Mapping[int, Rows]]:
        """Split -> cut -> its rows, for the cuts that can be had; what is not there yet is computed.

        Raises:
            Unfit: see ``capture``.
        """


@dataclass(eq=False)
class DiskStore(Store):
    """Arrow files that all processes of the node map; one computes, the others wait for it.

    disk_gib: budget of all files of the machine; None: see ``disk_budget``. memory_bytes: see ``FileRows``. problems:
    why something could not be kept.
    """

    disk_gib: float | None
    memory_bytes: int
    problems: list[str] = field(default_factory=list)

    def find(self, wishes: Mapping[str, Wish]) -> dict[str, Mapping[int, Rows]]:
        opened: dict[str, Mapping[int, Rows]] = {}
        # While somebody computes one split, another can be computed here.
        for waits in (False, True):
            for split, wish in wishes.items():
                if split not in opened and self._is_tried(wish, waits):
                    # At once: what nobody reads may be deleted for what is made next.
                    opened[split] = self._opened(wish)
        return opened

    def _is_tried(self, wish: Wish, waits: bool) -> bool:
        try:
            return self._is_made(wish, waits)
        except OSError as error:
            # Nothing is lost but time: what cannot be kept is computed again and again.
            self.problems.append(f"prefix cache: {entries.home()} cannot be written ({error}).")
            return True

    def _is_made(self, wish: Wish, waits: bool) -> bool:
        """Compute what is missing; False where somebody else does and this process is not to wait."""
        if not self._missing(wish, wish.cuts):
            return True
        entries.home().mkdir(parents=True, exist_ok=True)
        with _alone(entries.home() / f"{wish.key}.lock", wish.beat, waits) as is_alone:
            if is_alone and (missing := self._missing(wish, wish.cuts)):
                self._compute(wish, missing)
        return is_alone

    def _opened(self, wish: Wish) -> Mapping[int, Rows]:
        opened: dict[int, Rows] = {}
        for cut in wish.cuts:
            path = entries.entry_path(wish.key, cut)
            held = entries.hold(path) if entries.read_entry(path) else None
            if held is not None:
                opened[cut] = FileRows(path / entries.HIDDEN, len(wish.tokens), self.memory_bytes, held)
        return opened

    def _missing(self, wish: Wish, cuts: Sequence[int]) -> list[int]:
        return [cut for cut in cuts if entries.read_entry(entries.entry_path(wish.key, cut)) is None]

    def _compute(self, wish: Wish, missing: list[int]) -> None:
        budget = entries.disk_budget(self.disk_gib)
        needed = sum(map(wish.bytes, missing))
        room = entries.make_room(needed, budget, kept=[entries.entry_path(wish.key, cut) for cut in wish.cuts])
        if room < SMALLEST_SHARE * needed:
            self.problems.append(
                f"prefix cache: {needed / 1e9:.2f} GB are needed, and training.prefix_cache_disk_gib leaves "
                f"{room / 1e9:.2f} GB of {budget / 1e9:.2f} GB."
            )
            return
        cuts, left = list(missing), budget - needed - sum(entry.bytes for entry in entries.every_entry())
        for cut in self._missing(wish, wish.others):
            if cut not in cuts and wish.bytes(cut) <= left:
                cuts.append(cut)
                left -= wish.bytes(cut)
        _write(wish, cuts, share=room / needed)


def _write(wish: Wish, cuts: list[int], share: float) -> None:
    """One pass over the split, as many of its rows as ``share`` says, into one folder a cut."""
    for left_over in entries.home().glob(f".building-{wish.key}-*"):
        # Whoever holds the lock is alone: what is left belongs to a process that died.
        shutil.rmtree(left_over, ignore_errors=True)
    temporary = {cut: entries.home() / f".building-{wish.key}-c{cut}-{os.getpid()}" for cut in cuts}
    try:
        for path in temporary.values():
            path.mkdir()
        writers = {cut: RowWriter(path / entries.HIDDEN) for cut, path in temporary.items()}
        for rows in wish.rows(share):
            for cut, hidden in wish.passes.run(wish.tokens.rows(rows), cuts).items():
                writers[cut].write(rows, hidden)
            METER.add(CACHE_MISSES, len(rows))
            wish.beat()
        for cut, writer in writers.items():
            writer.close()
            if writer.rows:
                final = entries.entry_path(wish.key, cut)
                entries.finish(temporary[cut], final, cut, writer.rows, len(wish.tokens))
    finally:
        for path in temporary.values():
            shutil.rmtree(path, ignore_errors=True)
        # Training needs what the passes have left.
        give_freed_pages_back()


@dataclass(eq=False)
class MemoryStore(Store):
    """Tensors on the device of this process, which stay for its later trials.

    memory_bytes: budget of all of them; what is worth least (blocks saved times uses for each byte) goes first.
    """

    memory_bytes: int
    _kept: dict[tuple[str, int], MemoryRows] = field(default_factory=dict)
    _uses: dict[tuple[str, int], int] = field(default_factory=dict)

    def find(self, wishes: Mapping[str, Wish]) -> dict[str, Mapping[int, Rows]]:
        return {split: self._found(wish) for split, wish in wishes.items()}

    def _found(self, wish: Wish) -> Mapping[int, Rows]:
        missing = [cut for cut in wish.cuts if (wish.key, cut) not in self._kept]
        if missing:
            self._compute(wish, missing)
        found = {cut: self._kept[wish.key, cut] for cut in wish.cuts if (wish.key, cut) in self._kept}
        for cut, rows in found.items():
            rows.is_in_use = True
            self._uses[wish.key, cut] = self._uses.get((wish.key, cut), 0) + 1
        return found

    @property
    def bytes(self) -> int:
        return sum(rows.bytes for rows in self._kept.values())

    def _compute(self, wish: Wish, missing: list[int]) -> None:
        needed = sum(map(wish.bytes, missing))
        by_value = sorted(self._kept, key=lambda at: at[1] * self._uses.get(at, 0) / max(1, self._kept[at].bytes))
        for at in by_value:
            if self.bytes + needed <= self.memory_bytes:
                break
            if not self._kept[at].is_in_use and at not in {(wish.key, cut) for cut in wish.cuts}:
                del self._kept[at]
        share = min(1.0, (self.memory_bytes - self.bytes) / max(1, needed))
        if share < SMALLEST_SHARE:
            return
        found: dict[int, dict[int, Tensor]] = {cut: {} for cut in missing}
        for rows in wish.rows(share):
            for cut, hidden in wish.passes.run(wish.tokens.rows(rows), missing).items():
                found[cut].update(zip(rows.tolist(), hidden, strict=True))
            METER.add(CACHE_MISSES, len(rows))
            wish.beat()
        for cut, hidden_rows in found.items():
            if hidden_rows:
                self._kept[wish.key, cut] = MemoryRows(hidden_rows, len(wish.tokens))


@contextlib.contextmanager
def _alone(path: Path, beat: Callable[[], None], waits: bool) -> Iterator[bool]:
    """Hold a lock that the kernel drops with the process; give signs of life while waiting for it.

    waits: False to go on at once if another holds it; inside the block, whether this process does.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if not waits:
                    yield False
                    return
                beat()
                time.sleep(POLL_S)
        yield True
    finally:
        os.close(descriptor)
