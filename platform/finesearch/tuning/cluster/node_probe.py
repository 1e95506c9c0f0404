"""The actor that ``finesearch doctor`` runs on a node: facts, clock, reachable addresses, all-reduce."""

from __future__ import annotations

import time
from datetime import timedelta

from finesearch.tuning.cluster.addresses import can_connect, free_address, own_addresses
from finesearch.tuning.cluster.machine_facts import MachineFacts, describe_machine

REDUCED = 1 << 18
"""Numbers of four bytes that are summed over two nodes: 1 MiB."""


class NodeProbe:
    """Probes the node that it runs on; reserves no CPU, so that a busy cluster can be examined."""

    def facts(self) -> MachineFacts:
        """Facts about the node."""
        return describe_machine()

    def clock(self) -> float:
        """Unix time by the node's clock."""
        return time.time()

    def offer(self) -> tuple[str, int]:
        """Address of this node and a port that is free now."""
        return free_address()

    def can_connect(self, hosts: list[str], port: int) -> bool:
        """Whether one of ``hosts`` (this node's own addresses if empty) accepts a TCP connection at ``port``."""
        return any(can_connect(host, port) for host in hosts or own_addresses())

    def all_reduce(self, rank: int, address: str, port: int, backend: str, limit_s: float) -> tuple[float, str]:
        """Sum a megabyte over two processes: the seconds of the second sum, and what went wrong (empty: nothing)."""
        import torch
        import torch.distributed as dist

        store, device = f"tcp://{address}:{port}", "cuda" if backend == "nccl" else "cpu"
        try:
            dist.init_process_group(
                backend, init_method=store, rank=rank, world_size=2, timeout=timedelta(seconds=limit_s)
            )
            numbers = torch.ones(REDUCED, device=device)
            dist.all_reduce(numbers)  # connects
            began = time.monotonic()
            dist.all_reduce(numbers)
            total = float(numbers.sum())
            seconds = time.monotonic() - began
        except (RuntimeError, OSError) as error:  # torch's network errors
            return 0.0, " ".join(str(error).partition("Exception raised from")[0].split())[:200]
        finally:
            if dist.is_initialized():
                dist.destroy_process_group()
        return seconds, "" if total == 4.0 * REDUCED else f"the sum is {total}, not {4.0 * REDUCED}"
