"""Stores that find or compute the cached outputs of a split: on the node's disk, or in this process's memory."""

from __future__ import annotations

import os
import shutil
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from finesearch.data.build_once import file_lock
from finesearch.training.prefix_cache import disk_entries
from finesearch.training.prefix_cache.cache_request import CacheRequest
from finesearch.training.prefix_cache.cached_rows import CachedRowWriter, FileRows, LockedFile, MemoryRows, Rows
from finesearch.training.runtime.counters import CACHE_MISSES, COUNTERS
from finesearch.training.runtime.malloc import trim_heap

if TYPE_CHECKING:
    from torch import Tensor

MIN_CACHED_FRACTION = 0.1
"""Share of the requested bytes: if less than this fits into the budget, nothing is cached."""


@dataclass(eq=False)
class PrefixStore(ABC):
    """Where outputs are cached.

    memory_bytes: how much of them this process may hold in memory. problems: why something could not be cached.
    """

    memory_bytes: int
    problems: list[str] = field(default_factory=list, kw_only=True)

    @abstractmethod
    def find(self, requests: Mapping[str, CacheRequest]) -> dict[str, Mapping[int, Rows]]:
        """Split -> depth -> its rows, for the depths that are available; missing outputs are computed.

        Raises:
            NotCacheable: see ``capture``.
        """


@dataclass(eq=False)
class DiskPrefixStore(PrefixStore):
    """Arrow files that all processes of the node map. Each part of a split is computed by one of them; a process that
    finds a part locked computes another one, and waits when none is left.

    disk_gib: budget for all files of the machine; None: see ``disk_budget``.
    """

    disk_gib: float | None

    def find(self, requests: Mapping[str, CacheRequest]) -> dict[str, Mapping[int, Rows]]:
        parts = {split: request.parts() for split, request in requests.items()}
        left = [(split, part) for split, those in parts.items() for part in those]
        held: dict[tuple[str, int], list[LockedFile]] = {}
        try:
            # Lock existing entries first: unlocked ones may be evicted for the ones that are built next.
            for computes, waits in ((False, False), (True, False), (True, True)):
                for split, part in list(left):
                    if not self._missing(part, part.cache_depths) or (
                        computes and self._is_tried(part, parts[split], waits)
                    ):
                        left.remove((split, part))
                        for depth, file in self._held(part):
                            held.setdefault((split, depth), []).append(file)
            found: dict[str, Mapping[int, Rows]] = {}
            for split, request in requests.items():
                cache_depths = [depth for depth in request.cache_depths if (split, depth) in held]
                opened = {depth: self._open(held, split, depth, len(request.tokens)) for depth in cache_depths}
                found[split] = {depth: rows for depth, rows in opened.items() if rows is not None}
            return found
        finally:
            for files in held.values():
                for file in files:
                    os.close(file.held)

    def _open(
        self, held: dict[tuple[str, int], list[LockedFile]], split: str, depth: int, total_rows: int
    ) -> FileRows | None:
        """Map the files of a depth; None where somebody has deleted them since they were found: the cache may be
        deleted at any time, and its outputs are then computed."""
        try:
            rows = FileRows(held[split, depth], total_rows, self.memory_bytes)
        except OSError as error:
            self.problems.append(f"prefix cache: {disk_entries.home()} cannot be read ({error}).")
            return None
        del held[split, depth]  # it closes the locks itself
        return rows

    def _is_tried(self, part: CacheRequest, parts: Sequence[CacheRequest], waits: bool) -> bool:
        """Compute the missing outputs of a part; False if another process does so and ``waits`` is False."""
        try:
            disk_entries.home().mkdir(parents=True, exist_ok=True)
            with file_lock(disk_entries.lock_path(part.key), waits, part.beat) as is_alone:
                if is_alone and (missing := self._missing(part, part.cache_depths)):
                    disk_entries.remove_stale_builds(part.key)
                    self._compute(part, missing, parts)
            return is_alone
        except OSError as error:
            # Only time is lost: outputs that cannot be cached are computed again each time.
            problem = f"prefix cache: {disk_entries.home()} cannot be written ({error})."
            if problem not in self.problems:
                self.problems.append(problem)
            return True

    def _held(self, part: CacheRequest) -> Iterator[tuple[int, LockedFile]]:
        for depth in part.cache_depths:
            path = disk_entries.entry_path(part.key, depth)
            held = disk_entries.lock_entry(path) if disk_entries.read_intact_entry(path) else None
            if held is not None:
                yield depth, LockedFile(path / disk_entries.HIDDEN, held)

    def _missing(self, part: CacheRequest, cache_depths: Sequence[int]) -> list[int]:
        """Depths that cannot be read."""
        paths = {depth: disk_entries.entry_path(part.key, depth) for depth in cache_depths}
        return [depth for depth, path in paths.items() if disk_entries.read_intact_entry(path) is None]

    def _absent(self, part: CacheRequest, cache_depths: Sequence[int]) -> list[int]:
        """Depths without an entry; whether the others are intact is seen when they are read."""
        paths = {depth: disk_entries.entry_path(part.key, depth) for depth in cache_depths}
        return [depth for depth, path in paths.items() if disk_entries.read_entry(path) is None]

    def _left_bytes(self, parts: Sequence[CacheRequest], depth: int) -> int:
        """Bytes of a depth in those parts of a split where it is missing."""
        return sum(each.bytes(depth) for each in parts if self._absent(each, [depth]))

    def _compute(self, part: CacheRequest, missing: list[int], parts: Sequence[CacheRequest]) -> None:
        kept = [disk_entries.entry_path(each.key, depth) for each in parts for depth in part.cache_depths]
        needed = sum(map(part.bytes, missing))
        # One process at a time checks for free space and reserves it.
        with file_lock(disk_entries.lock_path("room"), beat=part.beat):
            budget = disk_entries.disk_budget(self.disk_gib)
            free_bytes = disk_entries.evict_entries(needed, budget, kept)
            if free_bytes < MIN_CACHED_FRACTION * needed:
                if part is parts[0]:
                    whole = sum(self._left_bytes(parts, depth) for depth in part.cache_depths)
                    self.problems.append(
                        f"prefix cache: {whole / 1e9:.2f} GB are needed, and training.prefix_cache_disk_gib leaves "
                        f"{free_bytes / 1e9:.2f} GB of {budget / 1e9:.2f} GB."
                    )
                return
            # Depths that this trial still has to compute come before those that later ones may request.
            left = (
                budget - disk_entries.used_bytes() - sum(self._left_bytes(parts, depth) for depth in part.cache_depths)
            )
            cache_depths = list(missing)
            for depth in self._absent(part, part.others):
                size = self._left_bytes(parts, depth)
                if size <= left:
                    cache_depths.append(depth)
                    left -= size
            temporary = {
                depth: disk_entries.reserve(part.key, depth, min(free_bytes, part.bytes(depth)))
                for depth in cache_depths
            }
        _write(part, temporary, share=free_bytes / needed)


def _write(part: CacheRequest, temporary: Mapping[int, Path], share: float) -> None:
    """One pass over a part, or over ``share`` of its tokens, written into one folder per depth."""
    try:
        writers = {depth: CachedRowWriter(path / disk_entries.HIDDEN) for depth, path in temporary.items()}
        for rows in part.rows(share):
            for depth, hidden in part.prefix_forward.run(part.tokens.rows(rows), temporary.keys()).items():
                writers[depth].write(rows, hidden)
            COUNTERS.add(CACHE_MISSES, len(rows))
            part.beat()
        for depth, writer in writers.items():
            writer.close()
            if writer.rows:
                final = disk_entries.entry_path(part.key, depth)
                disk_entries.commit_entry(temporary[depth], final, depth, writer.rows, len(part.numbers))
    finally:
        for path in temporary.values():
            shutil.rmtree(path, ignore_errors=True)
        # Training needs the memory that the forward passes have freed.
        trim_heap()


@dataclass(eq=False)
class MemoryPrefixStore(PrefixStore):
    """Tensors on this process's device, which stay for its later trials.

    Eviction starts with the lowest value: blocks saved times uses, per byte.
    """

    _kept: dict[tuple[str, int], MemoryRows] = field(default_factory=dict)
    _uses: dict[tuple[str, int], int] = field(default_factory=dict)

    def find(self, requests: Mapping[str, CacheRequest]) -> dict[str, Mapping[int, Rows]]:
        return {split: self._found(request) for split, request in requests.items()}

    def _found(self, request: CacheRequest) -> Mapping[int, Rows]:
        missing = [depth for depth in request.cache_depths if (request.key, depth) not in self._kept]
        if missing:
            self._compute(request, missing)
        found = {
            depth: self._kept[request.key, depth]
            for depth in request.cache_depths
            if (request.key, depth) in self._kept
        }
        for depth, rows in found.items():
            rows.is_in_use = True
            self._uses[request.key, depth] = self._uses.get((request.key, depth), 0) + 1
        return found

    @property
    def bytes(self) -> int:
        return sum(rows.bytes for rows in self._kept.values())

    def _compute(self, request: CacheRequest, missing: list[int]) -> None:
        needed = sum(map(request.bytes, missing))
        by_value = sorted(self._kept, key=lambda at: at[1] * self._uses.get(at, 0) / max(1, self._kept[at].bytes))
        for at in by_value:
            if self.bytes + needed <= self.memory_bytes:
                break
            if not self._kept[at].is_in_use and at not in {(request.key, depth) for depth in request.cache_depths}:
                del self._kept[at]
        share = min(1.0, (self.memory_bytes - self.bytes) / max(1, needed))
        if share < MIN_CACHED_FRACTION:
            return
        found: dict[int, dict[int, Tensor]] = {depth: {} for depth in missing}
        for rows in request.rows(share):
            for depth, hidden in request.prefix_forward.run(request.tokens.rows(rows), missing).items():
                found[depth].update(zip(rows.tolist(), hidden, strict=True))
            COUNTERS.add(CACHE_MISSES, len(rows))
            request.beat()
        for depth, hidden_rows in found.items():
            if hidden_rows:
                self._kept[request.key, depth] = MemoryRows(hidden_rows, len(request.tokens))
