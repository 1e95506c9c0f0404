"""Freed memory stays with the process while a trial trains, and goes back to the system after it.

The gradient of an embedding table is a fresh block of tens of megabytes in every step. By default the C library maps
such blocks one by one and unmaps them when they are freed, so that the system clears each page anew in every step. A
block moves on some times before the room that it left suits the next one (seen: up to five times), so that a trial may
hold some more of them than it uses.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager

# Of glibc's malloc.h.
M_TRIM_THRESHOLD = -1
M_MMAP_MAX = -4
NEVER = 2**31 - 1
DEFAULT_MMAP_MAX, DEFAULT_TRIM_THRESHOLD = 65536, 128 * 1024


@contextmanager
def keep_freed_pages() -> Iterator[None]:
    """Inside the block glibc serves large blocks from its heap as well, and does not shrink that by itself; elsewhere
    nothing changes."""
    tune = _function("mallopt")
    if tune is None:
        yield
        return
    tune(M_MMAP_MAX, 0)
    tune(M_TRIM_THRESHOLD, NEVER)
    try:
        yield
    finally:
        tune(M_MMAP_MAX, DEFAULT_MMAP_MAX)
        tune(M_TRIM_THRESHOLD, DEFAULT_TRIM_THRESHOLD)


def trim_heap() -> None:
    """Hand free pages of the heap to the system, wherever in it they lie."""
    trim = _function("malloc_trim")
    if trim is not None:
        trim(0)


def _function(name: str) -> ctypes._NamedFuncPointer | None:
    """A function of glibc; None where the C library is another."""
    return getattr(ctypes.CDLL(None), name, None) if sys.platform == "linux" else None
