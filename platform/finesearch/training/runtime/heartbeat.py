"""Signs of life between optimizer steps, so that what only takes long is not taken for a hang."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

HEARTBEAT_INTERVAL_S = 1.0
MAX_DURATION_S = 3600.0


@contextmanager
def heartbeat(beat: Callable[[], None], max_duration_s: float = MAX_DURATION_S) -> Iterator[None]:
    """Call ``beat`` from a thread each second that the block takes, for ``max_duration_s`` at most: then it may be a
    hang.

    For what tells nothing of how far it is: a download, an import, weights that are read. Loops call ``beat``
    themselves, as often as they like, so that a hang is seen much sooner.
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
