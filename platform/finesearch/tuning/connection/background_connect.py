"""Connects to Ray on a thread while the driver reads data and model."""

from __future__ import annotations

import threading

from finesearch.tuning.connection import connect


class BackgroundConnect:
    """A thread that connects to Ray and stays alive: Linux ends Ray's processes with the thread that forked them.

    name: the search's; needed_keys: secrets that its workers need; see :func:`connect.connect`.
    """

    def __init__(self, name: str | None = None, needed_keys: tuple[str, ...] = ()) -> None:
        self._name, self._needed_keys = name, needed_keys
        self._thread = threading.Thread(target=self._run, daemon=True, name="ray")
        self._is_up, self._is_over = threading.Event(), threading.Event()
        self._problem: BaseException | None = None

    def begin(self) -> None:
        """Start connecting, if not started yet; returns at once."""
        if self._thread.ident is None:
            self._thread.start()

    def wait(self) -> None:
        """Block until Ray can be used; raises the error that prevented it."""
        self.begin()
        self._is_up.wait()
        if self._problem is not None:
            raise self._problem

    def end(self) -> None:
        """Disconnect, if started; a Ray that was started here ends."""
        if self._thread.ident is not None:
            self._is_up.wait()
            connect.disconnect()
            self._is_over.set()

    def _run(self) -> None:
        try:
            connect.connect(self._name, self._needed_keys)
        except BaseException as error:  # raised by `wait`, in the thread that needs Ray
            self._problem = error
        finally:
            self._is_up.set()
        self._is_over.wait()
