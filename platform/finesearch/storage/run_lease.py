"""Lease: one driver a run in an object store, which has no locks; a heartbeat object a driver.

Each driver writes ``drivers/ID`` and renews it every ``RENEW_S``. A starting driver writes its own object first and
then looks for others, so that of two that start together at least one sees the other. Ages are differences between the
store's own write times: clocks of machines are never compared. A lease that is not renewed for ``EXPIRES_S`` is dead.
"""

from __future__ import annotations

import json
import threading
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType

from finesearch.errors import FinesearchError, RunConflictError, StorageError
from finesearch.storage.object_store import ObjectStore
from finesearch.storage.run_lock import describe_driver, identity

RENEW_S, EXPIRES_S, LOOK_EVERY_S = 15.0, 60.0, 1.0


class RunLease:
    """Held while a driver of this machine works on the run at ``run``.

    Args:
        run: store of the run.
        home: id of the working folder that this driver has locked: other leases of the same home belong to dead
            drivers, which would otherwise hold that lock.
        say: called once when the lease has to wait.

    Raises:
        RunConflictError: another driver is alive; the message names host, process and start time.
        StorageError: the store refuses or does not answer.
    """

    def __init__(self, run: ObjectStore, home: str, say: Callable[[str], None] = lambda _: None) -> None:
        self._run, self._drivers, self._home, self._name = run, run.child("drivers"), home, uuid.uuid4().hex
        self._since = time.time()
        self._ended = threading.Event()
        self.on_lost: Callable[[FinesearchError], None] = lambda _: None
        self._take(say)
        self._thread = threading.Thread(target=self._renew, daemon=True, name="lease")
        self._thread.start()

    def release(self) -> None:
        """Give up the lease."""
        self._ended.set()
        self._thread.join(5.0)
        with suppress(StorageError):  # it expires by itself
            self._drivers.delete_file(self._name)

    def _take(self, say: Callable[[str], None]) -> None:
        first: dict[str, float] | None = None
        began = time.monotonic()
        while True:
            self._show()
            others = self._others()
            if not others:
                return
            if first is None:
                first = others
                who = describe_driver(self._drivers.read(next(iter(others))) or b"")
                say(f"{self._run.shown}: {who} was at work on it; seeing for {EXPIRES_S:g} s whether it still is")
            renewed = [name for name, at in others.items() if first.get(name) != at]
            if renewed or time.monotonic() - began > 2 * EXPIRES_S:
                holder = describe_driver(self._drivers.read((renewed or list(others))[0]) or b"")
                with suppress(StorageError):
                    self._drivers.delete_file(self._name)
                raise RunConflictError(
                    f"{self._run.shown}: another driver is working on this run: {holder}. Wait for it or end it "
                    "first, or search under another name with --name."
                )
            time.sleep(LOOK_EVERY_S)

    def _others(self) -> dict[str, float]:
        """Other drivers that may be alive, and when they last renewed; objects of dead ones are deleted."""
        shown = self._drivers.files()
        now = shown.pop(self._name, None)
        if now is None:  # deleted by another driver, which took us for dead
            return shown
        alive = {}
        for name, at in shown.items():
            content = self._drivers.read(name)
            if content is None:
                continue
            if now - at > EXPIRES_S or _home_of(content) == self._home:
                self._drivers.delete_file(name)
            else:
                alive[name] = at
        return alive

    def _show(self) -> None:
        driver = {**identity(self._since), "home": self._home}
        self._drivers.write(self._name, json.dumps(driver).encode())

    def _renew(self) -> None:
        while not self._ended.wait(RENEW_S):
            try:
                shown = self._drivers.files()
                if self._name not in shown and shown:
                    holder = describe_driver(self._drivers.read(next(iter(shown))) or b"")
                    self.on_lost(
                        StorageError(
                            f"{self._run.shown}: this driver could not be seen for {EXPIRES_S:g} s, and another has "
                            f"taken the run over: {holder}. This one has ended; nothing is lost."
                        )
                    )
                    return
                self._show()
            except StorageError:
                continue  # retried; a write that fails for good ends the search elsewhere

    def __enter__(self) -> RunLease:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


def _home_of(content: bytes) -> object:
    """Where a driver says that it runs; None where its file says nothing that can be read."""
    try:
        return json.loads(content)["home"]
    except (ValueError, LookupError, TypeError, RecursionError):
        return None
