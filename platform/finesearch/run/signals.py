"""Signal handling: on Ctrl-C or SIGTERM, writes a partial report and exits; the same command resumes the search."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator

CAUGHT = {signal.SIGINT: 130, signal.SIGTERM: 143}


@contextlib.contextmanager
def exit_on_signals(on_signal: Callable[[int], None]) -> Iterator[None]:
    """In the block, the first SIGINT or SIGTERM calls ``on_signal(exit code)`` on a thread and ends the process.

    A Python handler would wait until the main thread returns from Ray's C++ code, which takes seconds; the C handler
    itself writes the wake-up descriptor. All finished work is in the journal, so nothing has to be unwound: the process
    leaves by ``os._exit``, and Ray ends the processes that it had started for it.
    """
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    before = {number: signal.signal(number, lambda *_: None) for number in CAUGHT}
    descriptor = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)

    def watch() -> None:
        while received := os.read(reader, 1):
            code = CAUGHT.get(signal.Signals(received[0]))
            if code is not None:
                try:
                    on_signal(code)
                finally:
                    os._exit(code)

    threading.Thread(target=watch, daemon=True, name="signals").start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(descriptor)
        for number, handler in before.items():
            signal.signal(number, handler)
        os.close(writer)
