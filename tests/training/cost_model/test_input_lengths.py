"""Lengths of inputs are those of the tokenizer, and what is cut is what training does not read."""

import json
from pathlib import Path
from typing import Any

import pytest

from finesearch.data import load_splits
from finesearch.plan import TaskPlan
from finesearch.tasks import make_task
from finesearch.training.cost_model.input_lengths import PARTS, ROWS_A_PART, InputLengths, measure_lengths
from finesearch.training.model.model_facts import inspect_model
from tiny_models import write_tiny_model


def measured(
    home: Path, kind: str, columns: dict[str, str], rows: dict[str, list[Any]], max_length: int
) -> InputLengths:
    lines = [json.dumps(dict(zip(rows, values, strict=True))) for values in zip(*rows.values(), strict=True)]
    (home / "rows.jsonl").write_text("\n".join(lines))
    data = dict.fromkeys(("train", "validation", "test"), "rows.jsonl")
    plan = TaskPlan.model_validate(
        {"kind": kind, "model": "model", "data": data, "columns": columns, "max_length": max_length}
    )
    splits, task, model = load_splits(plan, home), make_task(plan), inspect_model(plan, home)
    facts = task.read(splits)
    return measure_lengths(task.with_facts(facts), splits, facts, model)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("home")
    write_tiny_model(folder / "model")
    return folder


def test_rows_and_tokens_beyond_the_limit_are_counted(home: Path) -> None:
    # Two special tokens beside the words: 3 rows of 6 tokens, one of 22.
    texts = ["good good good good"] * 3 + [" ".join(["good"] * 20)]
    rows = {"text": texts, "label": ["a", "b", "a", "b"]}
    found = measured(home, "text-classification", {"text": "text", "label": "label"}, rows, 16)
    assert found.lengths == (6, 6, 6, 22)
    assert found.kept == 3 * 6 + 16
    head, *bars, cut = found.lines()
    assert head == "tokens of a train row: half up to 6, 95 % up to 20, longest 22"
    assert [bar.split() for bar in bars] == [
        ["6", "to", "8", "█" * 24, "75%"],
        ["9", "to", "16", "0%"],
        ["17", "to", "32", "█" * 8, "25%"],
    ]
    assert cut == "task.max_length 16 cuts 25.0% of the rows and 15.0% of the tokens"
    whole = measured(home, "text-classification", {"text": "text", "label": "label"}, rows, 32)
    assert whole.lines()[-1] == "task.max_length 32 cuts nothing"


def test_rows_that_are_read_in_parts_lose_nothing(home: Path) -> None:
    rows = {"tokens": [["good"] * 30, ["good"] * 4], "tags": [["O"] * 29 + ["B-X"], ["O", "B-X", "O", "O"]]}
    found = measured(home, "token-classification", {"tokens": "tokens", "tags": "tags"}, rows, 16)
    assert found.lines()[-1] == "task.max_length 16: 50.0% of the rows are read in parts; nothing is cut"


@pytest.mark.parametrize("rows", [1, ROWS_A_PART + 1, PARTS * ROWS_A_PART, PARTS * ROWS_A_PART + 1])
def test_few_rows_are_all_counted_once_and_many_by_a_sample(home: Path, rows: int) -> None:
    data = {"text": ["good " * (1 + row % 3) for row in range(rows + 1)], "label": ["a", "b"] * ((rows + 1) // 2 + 1)}
    data["label"] = data["label"][: rows + 1]
    found = measured(home, "text-classification", {"text": "text", "label": "label"}, data, 16)
    counted = len(found.lengths)
    assert counted == min(rows + 1, PARTS * ROWS_A_PART)
    assert ("from 2,048 of" in found.lines()[0]) == (rows + 1 > PARTS * ROWS_A_PART)
    assert set(found.lengths) <= {3, 4, 5}
