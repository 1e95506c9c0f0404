"""Heartbeats between optimizer steps, so that slow work (a download, an import) is not mistaken for a hang."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

HEARTBEAT_INTERVAL_S = 1.0
MAX_DURATION_S = 3600.0


@contextmanager
def heartbeat(beat: Callable[[], None], max_duration_s: float = MAX_DURATION_S) -> Iterator[None]:
    """Call ``beat`` from a thread each second while the block runs, for at most ``max_duration_s``; after that, it
    counts as a hang.

    For work that reports no progress: a download, an import, reading weights. Loops call ``beat`` themselves, so that a
    hang is detected much sooner.
    """
    over = threading.Event()

    def tell() -> None:
        ends = time.monotonic() + max_duration_s
        while not over.wait(HEARTBEAT_INTERVAL_S) and time.monotonic() < ends:
            beat()

    thread = threading.Thread(target=tell, daemon=True, name="heartbeat")
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
