"""Reproducible random seeds: random numbers depend on the trial alone, not on what the process did before.

Every use has its own seed, derived from the trial's seed and the place of use. Dropout is reseeded before each
optimizer step, so that a resumed trial draws what the interrupted one would have drawn and no generator state is
stored.
"""

from __future__ import annotations

import hashlib
import os
import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


def derived_seed(seed: int, *place: str | int) -> int:
    """A seed in [0, 2**63) for one place of use, the same in every process and Python version.

    >>> derived_seed(0, "dropout", 0, 17) == derived_seed(0, "dropout", 0, 17)
    True
    >>> derived_seed(0, "dropout", 0, 17) == derived_seed(0, "dropout", 1, 17)
    False
    """
    digest = hashlib.sha256("/".join(map(str, (seed, *place))).encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1


@contextmanager
def isolated_rng_state(seed: int) -> Iterator[None]:
    """Seed Python's, numpy's and torch's global generators inside the block, and restore their states after it."""
    python_state, numpy_state, torch_state = random.getstate(), np.random.get_state(), torch.get_rng_state()
    used_cuda = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
    cuda_states = torch.cuda.get_rng_state_all() if used_cuda else None
    random.seed(derived_seed(seed, "python"))
    np.random.seed(derived_seed(seed, "numpy") % 2**32)
    torch.manual_seed(derived_seed(seed, "torch"))
    try:
        yield
    finally:
        random.setstate(python_state)
        np.random.set_state(numpy_state)
        torch.set_rng_state(torch_state)
        if cuda_states is not None:
            torch.cuda.set_rng_state_all(cuda_states)


def seed_dropout(seed: int) -> None:
    """Seed torch's generators of the CPU and of GPUs in use.

    ``torch.manual_seed`` also registers the seed for devices that may be used later, with a stack trace, which takes
    longer than anything else in a short step.
    """
    torch.default_generator.manual_seed(seed)
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        torch.cuda.manual_seed_all(seed)


def enable_determinism(device: torch.device) -> None:
    """Make CUDA use deterministic kernels where it has them; CPU kernels are deterministic."""
    if device.type == "cuda":
        # cuBLAS reads it when its first handle is created.
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True, warn_only=True)
