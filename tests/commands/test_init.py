"""A plan from data files alone: the kind of task, its columns, its splits; and the plan passes its checks."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from finesearch.cli import main
from finesearch.plan import Plan, load_plan
from finesearch.run.preflight import run_preflight
from plans import write_sentiment
from tiny_models import write_tiny_model

Rows = Sequence[dict[str, Any]]


@pytest.fixture
def init(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Plan]:
    """Write rows as JSON Lines, have a plan made of them, and read it."""
    monkeypatch.chdir(tmp_path)

    def made(rows: Rows, *arguments: str) -> Plan:
        (tmp_path / "rows.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
        assert main(["init", "rows.jsonl", *arguments]) == 0
        return load_plan(tmp_path / "rows.yaml")

    return made


def times(count: int, **row: Any) -> Rows:
    """Rows whose strings have their number put in for ``#``."""

    def filled(value: Any, number: int) -> Any:
        return value.replace("#", str(number)) if isinstance(value, str) else value

    return [{name: filled(value, number) for name, value in row.items()} for number in range(count)]


TALK = [{"role": "user", "content": "Where is it?"}, {"role": "assistant", "content": "In the garden."}]
ANSWERS = {"text": ["the garden"], "answer_start": [6]}
LONG = "a long text about # things that goes on and on for quite a while until it ends at last"
KINDS: dict[str, tuple[dict[str, Any], str, dict[str, str]]] = {
    "dialogue": ({"id": "#", "messages": TALK}, "dialogue", {"messages": "messages"}),
    "shared chats": (
        {"conversations": [{"from": "human", "value": "Where?"}, {"from": "gpt", "value": "Here."}]}, "dialogue",
        {"messages": "conversations"},
    ),
    "instructions": (
        {"instruction": "Say # .", "output": "It is # ."}, "dialogue",
        {"instruction": "instruction", "output": "output"},
    ),
    "questions": (
        {"question": "where # ?", "context": "it is in the garden", "answers": ANSWERS}, "question-answering",
        {"question": "question", "context": "context", "answers": "answers"},
    ),
    "relations": (
        {"tokens": ["a", "b"], "head": [0, 1], "tail": [1, 2], "relation": "in"}, "relation-extraction",
        {"tokens": "tokens", "head": "head", "tail": "tail", "relation": "relation"},
    ),
    "entities": (
        {"words": ["Ada", "came", "home"], "ner": ["B-PER", "O", "O"]}, "token-classification",
        {"tokens": "words", "tags": "ner"},
    ),
    "spans": (
        {"text": "Ada came home", "entities": [{"start": 0, "end": 3, "label": "PER"}]}, "token-classification",
        {"text": "text", "spans": "entities"},
    ),
    "translation": ({"en": "a house #", "de": "ein Haus #"}, "translation", {"source": "en", "target": "de"}),
    "summarization": (
        {"article": LONG, "summary": "things go on #"}, "summarization", {"text": "article", "summary": "summary"}
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", KINDS, ids=str)
def test_the_kind_and_the_columns_follow_from_the_rows(init: Callable[..., Plan], case: str) -> None:
    row, kind, columns = KINDS[case]
    task = init(times(40, **row)).task
    assert (task.kind, dict(task.columns)) == (kind, columns)


def test_a_label_has_few_values_and_its_balance_decides_the_metric(init: Callable[..., Plan]) -> None:
    rows = [
        {"id": f"r{n}", "body": f"some words number {n}", "topic": "sport" if n % 10 else "news"} for n in range(60)
    ]
    task = init(rows).task
    assert dict(task.columns) == {"text": "body", "label": "topic"}
    assert task.metric == "macro_f1"
    text = Path("rows.yaml").read_text()
    assert "2 classes, sport has 90% of the rows, the rarest 6 rows" in text
    assert "topic holds 2 different values in 60 rows" in text


def test_pairs_lists_and_numbers_are_told_apart(init: Callable[..., Plan], tmp_path: Path) -> None:
    rows = [{"premise": f"it rains {n} times", "hypothesis": f"it is wet {n} times", "label": n % 3} for n in range(40)]
    pair = init(rows)
    assert dict(pair.task.columns) == {"text": "premise", "text_pair": "hypothesis", "label": "label"}
    (tmp_path / "rows.yaml").unlink()
    many = init([{"text": f"words and words {n}", "label": ["a", "b"][: n % 3]} for n in range(40)])
    assert (many.task.form, many.task.metric) == ("multi-label", "micro_f1")
    (tmp_path / "rows.yaml").unlink()
    number = init([{"text": f"words and words {n}", "score": n / 7} for n in range(40)])
    assert (number.task.form, number.task.columns["label"]) == ("regression", "score")


def test_the_length_cuts_at_most_one_row_in_twenty(init: Callable[..., Plan]) -> None:
    rows = [{"text": "word " * (100 if n < 4 else 40), "label": n % 2} for n in range(100)]
    assert init(rows).task.max_length == 64


def test_three_files_are_three_splits_and_the_plan_passes_its_checks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    write_tiny_model(tmp_path / "model")
    write_sentiment(tmp_path)
    files = ["test.csv", "train.csv", "validation.csv"]
    assert main(["init", *files, "--model", "model", "--name", "mine", "--out", "plan.yaml"]) == 0
    assert capsys.readouterr().out == "plan.yaml\n"
    plan = load_plan(tmp_path / "plan.yaml")
    assert plan.name == "mine"
    assert {split: list(paths) for split, paths in plan.task.data.files.items()} == {
        "train": ["train.csv"], "validation": ["validation.csv"], "test": ["test.csv"],
    }  # fmt: skip
    preflight = run_preflight(plan, tmp_path / "cache", has_begun=False)
    assert sorted(preflight.facts.label_names) == ["negative", "positive"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nowhere.csv"], "nowhere.csv: no such file"),
        (["odd.xyz"], "odd.xyz: unknown format '.xyz'"),
        (["broken.jsonl"], "broken.jsonl: cannot be read as jsonl"),
        (["strange.jsonl"], "strange.jsonl: no kind of task fits these columns: a (int), b (int)"),
        (["train.csv", "more.csv"], "more.csv: the name does not say which split it is"),
        (["train.csv", "train-2.csv"], "train-2.csv: train.csv is the train split already"),
        (["train.csv", "--out", "there.yaml"], "there.yaml: exists"),
    ],
)
def test_what_cannot_be_guessed_is_said(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    said: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "odd.xyz").write_text("x")
    (tmp_path / "broken.jsonl").write_text("{")
    (tmp_path / "strange.jsonl").write_text("\n".join(json.dumps({"a": n, "b": 3 * n}) for n in range(9)))
    for name in ("train.csv", "train-2.csv", "more.csv"):
        (tmp_path / name).write_text("text,label\n" + "some words,a\nother words,b\n" * 20)
    (tmp_path / "there.yaml").write_text("mine")
    assert main(["init", *arguments]) == 2
    assert said in capsys.readouterr().err
    assert (tmp_path / "there.yaml").read_text() == "mine"
