"""Work in a thread beside the training thread, which waits for it in steps."""

from __future__ import annotations

import concurrent.futures
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

T = TypeVar("T")

WAIT_STEP_S = 30.0
"""The longest that a rank waits for its thread while others wait for it in a collective, which times out."""


def in_background(work: Callable[[], T]) -> Future[T]:
    """Run ``work`` in a daemon thread, which does not keep the process from exiting."""
    future: Future[T] = Future()

    def run() -> None:
        try:
            future.set_result(work())
        except BaseException as error:  # re-raised by Future.result
            future.set_exception(error)

    threading.Thread(target=run, daemon=True, name="background").start()
    return future


def has_ended(future: Future[Any]) -> bool:
    """Whether the work has ended, after waiting for it, at most ``WAIT_STEP_S``."""
    return bool(concurrent.futures.wait([future], WAIT_STEP_S).done)
