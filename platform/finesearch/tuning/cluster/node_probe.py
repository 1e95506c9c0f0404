"""The actor that ``finesearch doctor`` puts on a node: what the node is, what time it has, whom it reaches."""

from __future__ import annotations

import time
from datetime import timedelta

from finesearch.tuning.cluster.addresses import can_connect, free_address, own_addresses
from finesearch.tuning.cluster.machine_facts import MachineFacts, describe_machine

REDUCED = 1 << 18
"""Numbers of four bytes that are summed over two nodes: 1 MiB."""


class NodeProbe:
    """Answers for the node that it runs on; holds no CPU, so that a busy cluster can be examined."""

    def facts(self) -> MachineFacts:
        """What the node is."""
        return describe_machine()

    def clock(self) -> float:
        """Unix time, by the node's clock."""
        return time.time()

    def offer(self) -> tuple[str, int]:
        """Address of this node and a port of it that is free now."""
        return free_address()

    def can_connect(self, hosts: list[str], port: int) -> bool:
        """Whether anybody takes a TCP connection at the port of one of these addresses; this node's own where none."""
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
        except (RuntimeError, OSError) as error:  # what torch raises of networks
            return 0.0, " ".join(str(error).partition("Exception raised from")[0].split())[:200]
        finally:
            if dist.is_initialized():
                dist.destroy_process_group()
        return seconds, "" if total == 4.0 * REDUCED else f"the sum is {total}, not {4.0 * REDUCED}"
