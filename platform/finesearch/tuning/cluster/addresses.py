"""Addresses and free ports of this machine, and whether other addresses accept a TCP connection."""

from __future__ import annotations

import socket
from typing import Any

import ray


def free_address() -> tuple[str, int]:
    """Address of this node, and a free port."""
    address: str = ray.util.get_node_ip_address()  # type: ignore[no-untyped-call]
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.bind(("", 0))
        return address, int(probe.getsockname()[1])


def can_connect(host: str, port: int, timeout_s: float = 2.0) -> bool:
    """Whether a TCP connection to ``host:port`` succeeds."""
    try:
        with socket.create_connection((host, port), timeout=timeout_s):
            return True
    except OSError:
        return False


def own_addresses() -> list[str]:
    """Addresses at which others may reach this machine."""
    import psutil

    found: list[Any] = [entry for entries in psutil.net_if_addrs().values() for entry in entries]
    return [entry.address for entry in found if entry.family == socket.AF_INET and not is_loopback(entry.address)]


def is_loopback(host: str) -> bool:
    """Whether an address can only be reached from its own machine.

    >>> is_loopback("127.0.0.1"), is_loopback("localhost"), is_loopback("10.0.0.7")
    (True, True, False)
    """
    return host == "localhost" or host == "::1" or host.startswith("127.")
