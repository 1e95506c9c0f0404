"""What the trials of one process share of the prefix cache, beside the kept outputs on disk."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field

from finesearch.training.prefix_cache.block_outputs import NotCacheable
from finesearch.training.prefix_cache.cache_stores import MemoryPrefixStore
from finesearch.training.prefix_cache.self_test import VerifiedBlocks


@dataclass(eq=False)
class PrefixCacheSession:
    """Filled by trials, read by later ones.

    verified: what was found of models that were tried, or why they do not take kept outputs; see ``injector_of``.
    keys: of splits by name, precision and device type. memory: what is kept on the device, once a trial keeps it there.
    """

    verified: dict[Hashable, VerifiedBlocks | NotCacheable] = field(default_factory=dict)
    keys: dict[tuple[str, str, str], str] = field(default_factory=dict)
    memory: MemoryPrefixStore | None = None

    def memory_store(self, memory_bytes: int) -> MemoryPrefixStore:
        """The store in memory, made with this budget when it is first asked for."""
        if self.memory is None:
            self.memory = MemoryPrefixStore(memory_bytes)
        return self.memory
