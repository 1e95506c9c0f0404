"""glibc malloc settings: whether freed memory stays with the process while a trial trains; after it, it is returned.

The gradient of an embedding table is a new block of tens of megabytes in every step. By default glibc maps such blocks
one by one and unmaps them when they are freed, so that the kernel zeroes every page again in each step. So trials of
small models keep freed pages. The heap may then fragment: a trial may hold a few more such blocks than it uses (up to
five were observed).

The heap of large models grew with every step that way: with four layers of width 2048 to 3.4 GB in five steps, of which
2.3 GB were in use. There each large block is mapped by itself, in pages of 2 MiB, and a trial holds what it uses. In
pages of 4 KiB zeroing doubled the time of a step.
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

# From glibc's malloc.h.
M_TRIM_THRESHOLD = -1
M_MMAP_THRESHOLD = -3
M_MMAP_MAX = -4
NEVER = 2**31 - 1
DEFAULT_MMAP_MAX, DEFAULT_TRIM_THRESHOLD, DEFAULT_MMAP_THRESHOLD = 65536, 128 * 1024, 128 * 1024
LARGE_WEIGHTS = 1_000_000_000
"""Bytes of weight files from which trials give freed memory back at once."""
LARGE_BLOCK = 1 << 20
HUGE_PAGES = "THP_MEM_ALLOC_ENABLE"
"""torch asks for huge pages where this is 1; it reads it once, before its first block."""


def choose_pages(weight_bytes: int) -> None:
    """Settle how the trials of this process use memory, before torch's first block."""
    if weight_bytes >= LARGE_WEIGHTS:
        os.environ.setdefault(HUGE_PAGES, "1")


@contextmanager
def trial_memory() -> Iterator[None]:
    """Inside the block freed memory is kept, or given back where large blocks lie in huge pages."""
    with map_large_blocks() if os.environ.get(HUGE_PAGES) == "1" else keep_freed_pages():
        yield


@contextmanager
def map_large_blocks() -> Iterator[None]:
    """Inside the block glibc maps blocks of ``LARGE_BLOCK`` and more by themselves, and unmaps them when they are
    freed. Without glibc nothing changes."""
    tune = _function("mallopt")
    if tune is None:
        yield
        return
    tune(M_MMAP_THRESHOLD, LARGE_BLOCK)
    try:
        yield
    finally:
        tune(M_MMAP_THRESHOLD, DEFAULT_MMAP_THRESHOLD)


@contextmanager
def keep_freed_pages() -> Iterator[None]:
    """Inside the block glibc also serves large allocations from its heap, and does not shrink the heap by itself.
    Without glibc nothing changes."""
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
    """Return the heap's free pages to the operating system, wherever they are."""
    trim = _function("malloc_trim")
    if trim is not None:
        trim(0)


def _function(name: str) -> ctypes._NamedFuncPointer | None:
    """A function of glibc; None with another C library."""
    return getattr(ctypes.CDLL(None), name, None) if sys.platform == "linux" else None
