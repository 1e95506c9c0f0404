"""Train/test split: takes validation and test from train, reproducibly, stratified, duplicates in the same split.

The order in which rows are taken comes from a hash of the seed and the example's content, not from a random generator:
the same rows give the same split on every machine and with every library version, in whatever order the file has them.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from math import floor

import numpy as np


def cut(
    example_hashes: Sequence[bytes], strata: Sequence[str] | None, fractions: Mapping[str, float], seed: int
) -> dict[str, np.ndarray]:
    """Row numbers of each part, ascending, int64; ``train`` is the remainder.

    example_hashes: (n,) equal if two rows are the same example; strata: (n,) the class of each row, None for no
    classes. fractions: part -> share of the n rows, in (0, 1).

    Every class keeps at least one example in train. A part is empty if there are too few examples.

    >>> parts = cut([bytes([i]) for i in range(10)], list("aaaaaabbbb"), {"test": 0.5}, seed=0)
    >>> {name: len(rows) for name, rows in parts.items()}
    {'test': 5, 'train': 5}
    """
    remaining = _examples(example_hashes, strata, seed)
    totals = {stratum: sum(map(len, examples)) for stratum, examples in remaining.items()}
    parts: dict[str, np.ndarray] = {}
    for part, fraction in fractions.items():
        quotas = _quotas(totals, fraction)
        taken: list[int] = []
        for stratum, examples in remaining.items():
            picked, kept = _take(examples, quotas[stratum])
            taken += picked
            remaining[stratum] = kept
        parts[part] = np.array(sorted(taken), dtype=np.int64)
    rest = [row for examples in remaining.values() for example in examples for row in example]
    parts["train"] = np.array(sorted(rest), dtype=np.int64)
    return parts


def _examples(example_hashes: Sequence[bytes], strata: Sequence[str] | None, seed: int) -> dict[str, list[list[int]]]:
    """Class -> its examples in the order in which they are taken; an example is the list of its rows."""
    rows_of: dict[bytes, list[int]] = defaultdict(list)
    for row, identity in enumerate(example_hashes):
        rows_of[identity].append(row)
    ranked = sorted(rows_of, key=lambda identity: hashlib.sha256(f"{seed}/".encode() + identity).digest())
    examples: dict[str, list[list[int]]] = defaultdict(list)
    for identity in ranked:
        rows = rows_of[identity]
        examples["" if strata is None else strata[rows[0]]].append(rows)
    return dict(sorted(examples.items()))


def _quotas(totals: Mapping[str, int], fraction: float) -> dict[str, int]:
    """Rows to take from each class: its share, rounded so that the total is exact (largest remainder method)."""
    shares = {stratum: total * fraction for stratum, total in totals.items()}
    quotas = {stratum: floor(share) for stratum, share in shares.items()}
    missing = max(1, round(sum(totals.values()) * fraction)) - sum(quotas.values())
    for stratum in sorted(shares, key=lambda s: (quotas[s] - shares[s], s))[:missing]:
        quotas[stratum] += 1
    return quotas


def _take(examples: list[list[int]], quota: int) -> tuple[list[int], list[list[int]]]:
    """Rows of the first examples that fit into the quota, and the remaining examples; the last one always remains."""
    taken: list[int] = []
    kept: list[list[int]] = []
    for i, rows in enumerate(examples):
        is_last_chance = i == len(examples) - 1 and not kept
        if len(taken) + len(rows) <= quota and not is_last_chance:
            taken += rows
        else:
            kept.append(rows)
    return taken, kept
