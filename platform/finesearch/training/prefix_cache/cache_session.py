"""Prefix-cache state that the trials of one process share, besides the entries on disk."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field

from finesearch.training.prefix_cache.block_outputs import NotCacheable
from finesearch.training.prefix_cache.cache_stores import MemoryPrefixStore
from finesearch.training.prefix_cache.self_test import VerifiedBlocks


@dataclass(eq=False)
class PrefixCacheSession:
    """Written by trials and read by later ones.

    verified: self-test results by model structure, or why a model does not accept cached outputs; see ``injector_of``.
    keys: of splits by name, precision, device, bits of weights. memory: the in-memory store, once a trial has used one.
    """

    verified: dict[Hashable, VerifiedBlocks | NotCacheable] = field(default_factory=dict)
    keys: dict[tuple[str, str, str, str], str] = field(default_factory=dict)
    memory: MemoryPrefixStore | None = None

    def memory_store(self, memory_bytes: int) -> MemoryPrefixStore:
        """The in-memory store, created with this budget on first use."""
        if self.memory is None:
            self.memory = MemoryPrefixStore(memory_bytes)
        return self.memory
