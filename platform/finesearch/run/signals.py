"""Ctrl-C and SIGTERM: a partial report at once, then out; the same command goes on later."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator

CAUGHT = {signal.SIGINT: 130, signal.SIGTERM: 143}


@contextlib.contextmanager
def exit_on_signals(on_signal: Callable[[int], None]) -> Iterator[None]:
    """While inside, the first SIGINT or SIGTERM calls ``on_signal(exit code)`` on a thread of its own and ends the
    process.

    A Python handler would have to wait until the main thread comes out of Ray's C++ code, which takes seconds; the
    wake-up
    descriptor is written by the C handler itself. Everything finished is in the journal already, so nothing has to be
    unwound: the process leaves by ``os._exit``, and Ray ends what it had started for it.
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
