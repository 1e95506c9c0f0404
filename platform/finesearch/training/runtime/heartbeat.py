"""Signs of life between optimizer steps, so that what only takes long is not taken for a hang."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

EVERY_S = 1.0
LONGEST_S = 3600.0


@contextmanager
def alive(beat: Callable[[], None], longest_s: float = LONGEST_S) -> Iterator[None]:
    """Call ``beat`` from a thread each second that the block takes, for ``longest_s`` at most: then it may be a hang.

    For what tells nothing of how far it is: a download, an import, weights that are read. Loops call ``beat``
    themselves, as often as they like, so that a hang is seen much sooner.
    """
    over = threading.Event()

    def tell() -> None:
        ends = time.monotonic() + longest_s
        while not over.wait(EVERY_S) and time.monotonic() < ends:
            beat()

    thread = threading.Thread(target=tell, daemon=True, name="alive")
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
