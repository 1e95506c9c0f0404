"""Ends a search whose Ray has lost its control store, before Ray's own code ends the process without a word of it."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from finesearch.tuning.cluster.addresses import can_connect

LOOK_EVERY_S = 2.0
RECONNECTS_FOR = "RAY_gcs_rpc_server_reconnect_timeout_s"
"""Ray's variable: how long its processes wait for a control store that may start again elsewhere, then they exit."""
RAYS_DEFAULT_S = 60.0
BEFORE_RAY_S = 10.0
EXIT_CODE = 1
AGAIN = ". Start the cluster again before you go on"


@contextmanager
def watched_control_store(address: str, on_lost: Callable[[str], None]) -> Iterator[None]:
    """In the block, ``on_lost`` is called with a message once ``HOST:PORT`` has refused connections for nearly as long
    as Ray waits; then the process ends, since calls into Ray no longer return.
    """
    host, _, port = address.rpartition(":")
    joins = bool(os.environ.get("RAY_ADDRESS"))
    over = threading.Event()
    patience = max(LOOK_EVERY_S, float(os.environ.get(RECONNECTS_FOR) or RAYS_DEFAULT_S) - BEFORE_RAY_S)

    def watch() -> None:
        answered = time.monotonic()
        while not over.wait(LOOK_EVERY_S):
            if can_connect(host, int(port)):
                answered = time.monotonic()
            elif time.monotonic() - answered > patience:
                try:
                    on_lost(
                        f"Ray's control store at {address} has not answered for {time.monotonic() - answered:.0f} s: "
                        f"its process (gcs_server) or its machine was killed{AGAIN if joins else ''}"
                    )
                finally:
                    os._exit(EXIT_CODE)

    thread = threading.Thread(target=watch, daemon=True, name="control-store")
    thread.start()
    try:
        yield
    finally:
        over.set()
