"""A token without an embedding is refused before a search starts, whichever split holds it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from finesearch.data import load_splits
from finesearch.errors import ModelError
from finesearch.tasks import TaskFacts, make_task
from finesearch.training.weights.token_ids_check import check_token_ids
from tiny_models import VOCABULARY
from training_cases import task_plan

ROWS = len(VOCABULARY)


@pytest.fixture
def model(home: Path, tmp_path: Path) -> Path:
    """A copy of the home whose tokenizer has a token more than the model has embeddings."""
    from transformers import AutoTokenizer

    shutil.copytree(home, tmp_path / "home")
    folder = tmp_path / "home" / "model"
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert tokenizer.add_tokens(["[USER]"]) == 1
    tokenizer.save_pretrained(folder)
    return folder


def check(model: Path) -> tuple[str, ...]:
    task = make_task(task_plan())
    splits = load_splits(task.plan, model.parent, model.parent / "cache")
    return check_token_ids(task, splits, task.read(splits), model)


@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_a_row_with_a_token_beyond_the_table_is_refused_by_file_and_row(split: str, model: Path) -> None:
    path = model.parent / f"{split}.csv"
    lines = path.read_text().splitlines()
    lines[5] = f"[USER] {lines[5]}"
    path.write_text("\n".join(lines) + "\n")
    message = (
        rf"{split}.csv, row 5: the text holds the token '\[USER\]' \(id {ROWS}\), and the model in .*model has "
        rf"embeddings for the ids 0 to {ROWS - 1}.\n  Tokens of the tokenizer without one: 1. Take the tokenizer that "
        rf"belongs to the weights, or extend .*resize_token_embeddings\({ROWS + 1}\)"
    )
    with pytest.raises(ModelError, match=message):
        check(model)


def test_a_token_that_no_row_holds_is_a_note(model: Path) -> None:
    assert check(model) == (
        f"Tokens of the tokenizer without an embedding in the model: 1, from id {ROWS} on; no row holds one.",
    )


def test_padding_beyond_the_table_is_refused(model: Path) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model)
    tokenizer.pad_token = "[USER]"
    tokenizer.save_pretrained(model)
    with pytest.raises(
        ModelError, match=rf"the padding token '\[USER\]' has the id {ROWS}, and the model in .* has em"
    ):
        check(model)


def test_tokens_that_the_task_adds_itself_have_embeddings(home: Path) -> None:
    task = make_task(task_plan())
    splits = load_splits(task.plan, home, home / "cache")
    facts = TaskFacts(kind=task.kind, label_names=("bad", "good"), special_tokens=("[E1]", "[/E1]"))
    assert check_token_ids(task, splits, facts, home / "model") == ()
