"""Texts that spell special tokens are counted, and refused where the model's head would stumble over them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from transformers import BartConfig, BertConfig

from finesearch.data import load_splits
from finesearch.errors import DataError
from finesearch.plan import DataPlan, TaskPlan
from finesearch.tasks import make_task
from finesearch.training.heads.spelled_tokens import check_spelled_tokens
from tiny_models import write_tiny_tokenizer

SEP = 3


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A tokenizer whose end token is [SEP], and data whose fourth row spells it."""
    write_tiny_tokenizer(tmp_path)
    path = tmp_path / "tokenizer_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"eos_token": "[SEP]"}))
    rows = [f"a good film {i},good\na bad film {i},bad\n" for i in range(3)]
    rows[1] = "a good [SEP] film,good\na dull [SE P] film,bad\n"
    (tmp_path / "train.csv").write_text("text,label\nslow film,bad\n" + "".join(rows))
    for split in ("validation", "test"):
        (tmp_path / f"{split}.csv").write_text(f"text,label\n{split} good,good\n{split} bad,bad\n")
    return tmp_path


def check(folder: Path, config: BartConfig | BertConfig) -> tuple[str, ...]:
    data = DataPlan(train="train.csv", validation="validation.csv", test="test.csv")
    plan = TaskPlan(
        kind="text-classification", model="m", data=data, columns={"text": "text", "label": "label"}, max_length=32
    )
    splits, task = load_splits(plan, folder), make_task(plan)
    return check_spelled_tokens(task, splits, task.read(splits), folder, config)


def test_rows_that_spell_a_special_token_are_counted(folder: Path) -> None:
    assert check(folder, BertConfig()) == (
        "1 of 7 train rows spell special tokens of the tokenizer, the first is train.csv, row 4 with [SEP]: the model "
        "reads them as those tokens, not as text.",
    )


def test_an_end_token_too_many_is_refused_where_the_head_reads_its_state(folder: Path) -> None:
    with pytest.raises(DataError, match=r"train.csv, row 4: the text spells '\[SEP\]'.* has 2 of them, expected 1: "):
        check(folder, BartConfig(eos_token_id=SEP))


def test_texts_without_special_tokens_get_no_note(folder: Path) -> None:
    path = folder / "train.csv"
    path.write_text(path.read_text().replace("[SEP]", "dot"))
    assert check(folder, BartConfig(eos_token_id=SEP)) == ()
