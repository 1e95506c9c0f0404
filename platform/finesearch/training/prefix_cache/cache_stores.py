"""Finds or computes the kept outputs of a split: on the node's disk, or in the memory of this process."""

from __future__ import annotations

import os
import shutil
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from finesearch.data.build_once import alone
from finesearch.training.prefix_cache import disk_entries
from finesearch.training.prefix_cache.cache_request import Wish
from finesearch.training.prefix_cache.cached_rows import FileRows, HeldFile, MemoryRows, Rows, RowWriter
from finesearch.training.runtime.counters import CACHE_MISSES, METER
from finesearch.training.runtime.malloc import give_freed_pages_back

if TYPE_CHECKING:
    from torch import Tensor

SMALLEST_SHARE = 0.1
"""Of what is asked for: where less of it fits into the budget, nothing is kept."""


@dataclass(eq=False)
class Store(ABC):
    """Where outputs are kept.

    memory_bytes: what this process may hold of them in its memory. problems: why something could not be kept.
    """

    memory_bytes: int
    problems: list[str] = field(default_factory=list, kw_only=True)

    @abstractmethod
    def find(self, wishes: Mapping[str, Wish]) -> dict[str, Mapping[int, Rows]]:
        """Split -> cut -> its rows, for the cuts that can be had; what is not there yet is computed.

        Raises:
            Unfit: see ``capture``.
        """


@dataclass(eq=False)
class DiskStore(Store):
    """Arrow files that all processes of the node map. Each part of a split is computed by one of them; who finds a part
    taken computes another, and waits when nothing else is left.

    disk_gib: budget of all files of the machine; None: see ``disk_budget``.
    """

    disk_gib: float | None

    def find(self, wishes: Mapping[str, Wish]) -> dict[str, Mapping[int, Rows]]:
        parts = {split: wish.parts() for split, wish in wishes.items()}
        left = [(split, part) for split, those in parts.items() for part in those]
        held: dict[tuple[str, int], list[HeldFile]] = {}
        try:
            # What is there is held first: what nobody reads may be deleted for what is made next.
            for computes, waits in ((False, False), (True, False), (True, True)):
                for split, part in list(left):
                    if not self._missing(part, part.cuts) or (computes and self._is_tried(part, parts[split], waits)):
                        left.remove((split, part))
                        for cut, file in self._held(part):
                            held.setdefault((split, cut), []).append(file)
            found: dict[str, Mapping[int, Rows]] = {}
            for split, wish in wishes.items():
                cuts = [cut for cut in wish.cuts if (split, cut) in held]
                found[split] = {
                    cut: FileRows(held.pop((split, cut)), len(wish.tokens), self.memory_bytes) for cut in cuts
                }
            return found
        finally:
            for files in held.values():
                for file in files:
                    os.close(file.held)

    def _is_tried(self, part: Wish, parts: Sequence[Wish], waits: bool) -> bool:
        """Compute what is missing of a part; False where somebody else does and this process is not to wait."""
        try:
            disk_entries.home().mkdir(parents=True, exist_ok=True)
            with alone(disk_entries.lock_path(part.key), waits, part.beat) as is_alone:
                if is_alone and (missing := self._missing(part, part.cuts)):
                    disk_entries.remove_left_overs(part.key)
                    self._compute(part, missing, parts)
            return is_alone
        except OSError as error:
            # Nothing is lost but time: what cannot be kept is computed again and again.
            problem = f"prefix cache: {disk_entries.home()} cannot be written ({error})."
            if problem not in self.problems:
                self.problems.append(problem)
            return True

    def _held(self, part: Wish) -> Iterator[tuple[int, HeldFile]]:
        for cut in part.cuts:
            path = disk_entries.entry_path(part.key, cut)
            held = disk_entries.hold(path) if disk_entries.read_entry(path) else None
            if held is not None:
                yield cut, HeldFile(path / disk_entries.HIDDEN, held)

    def _missing(self, part: Wish, cuts: Sequence[int]) -> list[int]:
        return [cut for cut in cuts if disk_entries.read_entry(disk_entries.entry_path(part.key, cut)) is None]

    def _left_bytes(self, parts: Sequence[Wish], cut: int) -> int:
        """What a cut takes in those parts of a split in which it is missing."""
        return sum(each.bytes(cut) for each in parts if self._missing(each, [cut]))

    def _compute(self, part: Wish, missing: list[int], parts: Sequence[Wish]) -> None:
        kept = [disk_entries.entry_path(each.key, cut) for each in parts for cut in part.cuts]
        needed = sum(map(part.bytes, missing))
        # One at a time looks for room and takes it.
        with alone(disk_entries.lock_path("room"), beat=part.beat):
            budget = disk_entries.disk_budget(self.disk_gib)
            room = disk_entries.make_room(needed, budget, kept)
            if room < SMALLEST_SHARE * needed:
                if part is parts[0]:
                    whole = sum(self._left_bytes(parts, cut) for cut in part.cuts)
                    self.problems.append(
                        f"prefix cache: {whole / 1e9:.2f} GB are needed, and training.prefix_cache_disk_gib leaves "
                        f"{room / 1e9:.2f} GB of {budget / 1e9:.2f} GB."
                    )
                return
            # What this trial has still to compute comes before what later ones may ask for.
            left = budget - disk_entries.used_bytes() - sum(self._left_bytes(parts, cut) for cut in part.cuts)
            cuts = list(missing)
            for cut in self._missing(part, part.others):
                size = self._left_bytes(parts, cut)
                if size <= left:
                    cuts.append(cut)
                    left -= size
            temporary = {cut: disk_entries.reserve(part.key, cut, min(room, part.bytes(cut))) for cut in cuts}
        _write(part, temporary, share=room / needed)


def _write(part: Wish, temporary: Mapping[int, Path], share: float) -> None:
    """One pass over a part, as many of its rows as ``share`` says, into one folder a cut."""
    try:
        writers = {cut: RowWriter(path / disk_entries.HIDDEN) for cut, path in temporary.items()}
        for rows in part.rows(share):
            for cut, hidden in part.passes.run(part.tokens.rows(rows), temporary.keys()).items():
                writers[cut].write(rows, hidden)
            METER.add(CACHE_MISSES, len(rows))
            part.beat()
        for cut, writer in writers.items():
            writer.close()
            if writer.rows:
                final = disk_entries.entry_path(part.key, cut)
                disk_entries.finish(temporary[cut], final, cut, writer.rows, len(part.numbers))
    finally:
        for path in temporary.values():
            shutil.rmtree(path, ignore_errors=True)
        # Training needs what the passes have left.
        give_freed_pages_back()


@dataclass(eq=False)
class MemoryStore(Store):
    """Tensors on the device of this process, which stay for its later trials.

    What is worth least (blocks saved times uses for each byte) goes first.
    """

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
