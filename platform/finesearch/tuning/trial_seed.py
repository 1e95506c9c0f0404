"""The seed of a trial: of its training, and of the sampler that suggests it."""

from __future__ import annotations

import zlib


def trial_seed(seed: int, number: int) -> int:
    """The seed of trial ``number`` of a search with ``seed``: ``training.seed`` for its training, ``search.seed`` for
    the sampler.

    A sampler that is seeded once a process would start its sequence again after a restart and suggest the same trials.
    Seeded by the number of the trial, a resumed search draws what it would have drawn. ``training/runtime/seeding.py``
    derives the seeds of weights, batches and dropout from this one.

    >>> trial_seed(0, 7) == trial_seed(0, 7) != trial_seed(0, 8)
    True
    """
    return zlib.crc32(f"{seed}/{number}".encode())
