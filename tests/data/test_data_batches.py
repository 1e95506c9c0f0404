"""Batches: every row once, like lengths together, the same again for the same seed."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from finesearch.data import evaluation_batches, shard, training_batches

LENGTHS = np.random.default_rng(0).geometric(1 / 20, size=1_000).clip(3, 64).astype(np.int32)


def padded(batches: list[np.ndarray]) -> int:
    return sum(len(batch) * int(LENGTHS[batch].max()) for batch in batches)


@given(n=st.integers(0, 300), batch_size=st.integers(1, 40), seed=st.integers(0, 3), epoch=st.integers(0, 3))
def test_every_row_comes_once_in_full_batches(n: int, batch_size: int, seed: int, epoch: int) -> None:
    batches = training_batches(LENGTHS[:n], batch_size, seed, epoch)
    assert sorted(row for batch in batches for row in batch.tolist()) == list(range(n))
    assert len(batches) == -(-n // batch_size)
    assert all(len(batch) == batch_size for batch in batches[:-1])


def test_batches_are_the_same_for_the_same_seed_and_epoch_only() -> None:
    def flat(seed: int, epoch: int) -> list[int]:
        return np.concatenate(training_batches(LENGTHS, 32, seed, epoch)).tolist()

    assert flat(0, 0) == flat(0, 0)
    assert len({tuple(flat(seed, epoch)) for seed in range(3) for epoch in range(3)}) == 9


def test_rows_meet_other_rows_in_every_epoch() -> None:
    def company(epoch: int) -> set[int]:
        return next(set(batch.tolist()) for batch in training_batches(LENGTHS, 32, 0, epoch) if 17 in batch)

    assert len(company(0) & company(1)) < 20


def test_little_of_a_batch_is_padding() -> None:
    shuffled = [rows for rows in np.array_split(np.random.default_rng(1).permutation(1_000), 32)]
    bucketed = padded(training_batches(LENGTHS, 32, seed=0, epoch=0))
    assert bucketed < 1.25 * LENGTHS.sum()
    assert bucketed < 0.45 * padded(shuffled)


def test_evaluation_takes_the_longest_first() -> None:
    batches = evaluation_batches(LENGTHS, 128)
    longest = [int(LENGTHS[batch].max()) for batch in batches]
    assert longest == sorted(longest, reverse=True)
    assert longest[0] == LENGTHS.max()
    assert sorted(np.concatenate(batches).tolist()) == list(range(1_000))


@pytest.mark.parametrize("size", [1, 2, 7, 32])
def test_shards_are_a_partition_of_even_sizes(size: int) -> None:
    shards = [shard(np.arange(size), rank, world_size=3) for rank in range(3)]
    assert sorted(np.concatenate(shards).tolist()) == list(range(size))
    assert max(map(len, shards)) - min(map(len, shards)) <= 1
