"""Distinguishes a trial's own exception from one that means that another rank is lost."""

from __future__ import annotations

from collections.abc import Iterator

WIRES = ("gloo", "nccl")


def is_lost_peer(error: BaseException) -> bool:
    """Whether a rank failed because it lost the connection to another one, whose machine may be gone.

    >>> is_lost_peer(RuntimeError("[gloo/transport/tcp/pair.cc:534] Connection closed by peer [10.0.0.7]:4511"))
    True
    >>> is_lost_peer(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
    False
    """
    import torch.distributed as dist

    kinds = (dist.DistBackendError, dist.DistNetworkError)
    return any(
        isinstance(each, kinds) or (isinstance(each, RuntimeError) and any(wire in str(each).lower() for wire in WIRES))
        for each in chain(error)
    )


def chain(error: BaseException) -> Iterator[BaseException]:
    """The error and its causes."""
    each: BaseException | None = error
    while each is not None:
        yield each
        each = each.__cause__ or each.__context__
