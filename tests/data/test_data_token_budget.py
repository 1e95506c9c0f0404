"""Token budgets: every row once, never above the budget but for a row that is longer by itself."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from finesearch.data import num_passes_within, shard, token_budget_batches

SOME_LENGTHS = st.lists(st.integers(1, 90), min_size=1, max_size=120).map(np.array)


@given(lengths=SOME_LENGTHS, max_tokens=st.integers(1, 600))
def test_batches_hold_every_row_once_within_the_budget(lengths: np.ndarray, max_tokens: int) -> None:
    batches = token_budget_batches(lengths, max_tokens)
    assert sorted(np.concatenate(batches).tolist()) == list(range(len(lengths)))
    for batch in batches:
        assert len(batch) * lengths[batch].max() <= max_tokens or len(batch) == 1


@given(lengths=SOME_LENGTHS, max_tokens=st.integers(1, 600))
def test_a_batch_ends_only_where_one_more_row_would_not_fit(lengths: np.ndarray, max_tokens: int) -> None:
    for batch in token_budget_batches(lengths, max_tokens)[:-1]:
        assert (len(batch) + 1) * lengths[batch].max() > max_tokens


def test_the_longest_rows_come_first_and_equal_ones_in_their_order() -> None:
    batches = token_budget_batches(np.array([2, 5, 2, 5, 2]), max_tokens=10)
    assert [batch.tolist() for batch in batches] == [[1, 3], [0, 2, 4]]


@given(lengths=SOME_LENGTHS, max_tokens=st.integers(1, 600), world=st.integers(1, 3), multiple=st.sampled_from([1, 8]))
def test_no_piece_of_a_cut_batch_is_above_the_budget(
    lengths: np.ndarray, max_tokens: int, world: int, multiple: int
) -> None:
    passes = num_passes_within(lengths, max_tokens, world, multiple)
    pieces = [shard(np.arange(len(lengths)), number, passes * world) for number in range(passes * world)]
    for piece in pieces:
        if len(piece) > 1:
            assert len(piece) * -(-lengths[piece].max() // multiple) * multiple <= max_tokens


def test_both_texts_of_a_row_count() -> None:
    widths = np.array([[10, 2], [6, 6], [4, 4], [4, 4]])
    assert num_passes_within(widths, max_tokens=32, world_size=1) == 2
    assert num_passes_within(widths[:, 0], max_tokens=40, world_size=1) == 1
