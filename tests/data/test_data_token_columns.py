"""Columns gathered from the mapped file at once are those of the rows one by one."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from finesearch.data import TokenizedSplit

IDS = [[1, 2, 3], [4], [5, 6], [], [7, 8, 9, 10], [11]]
NUMBERS = [3, 1, 4, 1, 5, 9]


@pytest.fixture
def split(tmp_path: Path) -> TokenizedSplit:
    """Six rows in three record batches, with columns of several widths before the ids."""
    table = pa.table(
        {
            "name": [f"row {i}" for i in range(6)],
            "halves": pa.array([[0.5 * n for n in ids] for ids in IDS], pa.list_(pa.float64())),
            "input_ids": pa.array(IDS, pa.list_(pa.int32())),
            "holes": pa.array([*IDS[:5], None], pa.list_(pa.int32())),
            "labels": pa.array(NUMBERS, pa.int32()),
            "answers": [["a"]] * 6,
        }
    )
    with pa.ipc.new_file(tmp_path / "t.arrow", table.schema) as writer:
        writer.write_table(table, max_chunksize=2)
    return TokenizedSplit(tmp_path / "t.arrow")


@pytest.mark.parametrize("order", [[4, 0, 3, 3, 5], [3], [2, 1], list(range(6))])
@pytest.mark.parametrize("name", ["input_ids", "halves"])
def test_lists_come_one_behind_the_other_in_the_order_asked(split: TokenizedSplit, name: str, order: list[int]) -> None:
    batch = split.rows(order)
    taken = batch.flat_values(name)
    assert taken is not None
    values, lengths = taken
    assert values.tolist() == [value for row in batch for value in row[name]]
    assert lengths.tolist() == [len(row[name]) for row in batch]


def test_numbers_come_in_the_order_asked(split: TokenizedSplit) -> None:
    numbers = split.rows([5, 0, 0]).numbers("labels")
    assert numbers is not None
    assert numbers.tolist() == [9, 3, 3]


@pytest.mark.parametrize("name", ["name", "answers", "holes", "nowhere"])
def test_other_columns_are_left_to_the_rows(split: TokenizedSplit, name: str) -> None:
    batch = split.rows([0, 1])
    assert (batch.flat_values(name), batch.numbers(name)) == (None, None)


def test_nothing_of_a_list_column_is_copied_but_what_is_asked_for(split: TokenizedSplit) -> None:
    column = split.list_column("input_ids")
    assert column is not None
    assert not column.values.flags.owndata
    assert not column.values.flags.writeable
    assert column.values.nbytes <= split.path.stat().st_size


def test_a_batch_is_a_sequence_of_its_rows(split: TokenizedSplit) -> None:
    batch = split.rows(np.array([1, 2, 5]))
    assert len(batch) == 3
    assert [row["name"] for row in batch] == ["row 1", "row 2", "row 5"]
    assert [row["name"] for row in batch[1:]] == ["row 2", "row 5"]
    assert batch[-1]["labels"] == 9


@pytest.mark.parametrize("odd", [-1, 6])
def test_a_row_that_is_not_there_is_refused(split: TokenizedSplit, odd: int) -> None:
    with pytest.raises(IndexError, match=rf"row {odd} of 6 in .*t\.arrow"):
        split.rows([0, odd])


def test_widths_have_a_column_for_each_text_that_the_model_reads(split: TokenizedSplit, tmp_path: Path) -> None:
    assert split.widths.tolist() == [[len(ids)] for ids in IDS]
    table = pa.table({"input_ids": [[1, 2], [3]], "decoder_input_ids": [[1], [2, 3, 4]]})
    with pa.ipc.new_file(tmp_path / "pair.arrow", table.schema) as writer:
        writer.write_table(table)
    assert TokenizedSplit(tmp_path / "pair.arrow").widths.tolist() == [[2, 1], [1, 3]]
