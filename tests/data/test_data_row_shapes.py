"""Rows in shapes of other tools become those that tasks read, with a note, or an error that names the row."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from finesearch.data import load_splits
from finesearch.errors import DataError
from finesearch.plan import DataPlan, TaskPlan
from finesearch.tasks import RawSplits, TaskFacts, make_task
from finesearch.tasks.generation.dialogue_rows import conversation, reply_text

Read = Callable[..., tuple[RawSplits, TaskFacts]]


def lines(*rows: dict[str, Any]) -> str:
    return "\n".join(json.dumps(row, ensure_ascii=False) for row in rows)


@pytest.fixture
def read(tmp_path: Path) -> Read:
    """Write rows as the three splits, and read them with a task's plan."""

    def read(kind: str, rows: list[dict[str, Any]], columns: dict[str, Any], **task: Any) -> Any:
        (tmp_path / "a.jsonl").write_text(lines(*rows))
        data = DataPlan(train="a.jsonl", validation="a.jsonl", test="a.jsonl")
        plan = TaskPlan(kind=kind, model="m", data=data, columns=columns, **task)
        splits = load_splits(plan, tmp_path)
        return splits, make_task(plan).read(splits)

    return read


TAGS = {"tokens": "words", "tags": "tags"}


def tagged(*tags: str | list[Any]) -> list[dict[str, Any]]:
    rows = [row.split() if isinstance(row, str) else row for row in tags]
    return [{"words": ["w"] * len(row), "tags": row} for row in rows]


@pytest.mark.parametrize(
    ("tags", "scheme", "spans"),
    [
        ("O B-P I-P L-P U-N U-N L-P", "BILOU", [[1, 4, "P"], [4, 5, "N"], [5, 6, "N"], [6, 7, "P"]]),
        ("B-P E-P S-N I-N O", "BIOES", [[0, 2, "P"], [2, 3, "N"], [3, 4, "N"]]),
        ("B-P M-P E-P O", "BIOES", [[0, 3, "P"]]),
        ("PER PER O PER LOC", "IO", [[0, 2, "PER"], [3, 4, "PER"], [4, 5, "LOC"]]),
        ("I-P I-P O I-N I-P", "IO", [[0, 2, "P"], [3, 4, "N"], [4, 5, "P"]]),
    ],
)
def test_tags_of_other_schemes_are_the_same_entities(read: Read, tags: str, scheme: str, spans: list[Any]) -> None:
    splits, facts = read("token-classification", tagged(tags, "O O"), TAGS)
    task = make_task(TaskPlan(kind="token-classification", model="m", data=DataPlan(train="a"), columns=TAGS))
    assert task.answers(splits.plain_rows("test"), facts) == [spans, []]
    assert [note for note in splits.notes if f"'tags' are {scheme}" in note]


def test_bio_tags_stay_as_they_are_without_a_note(read: Read) -> None:
    splits, _ = read("token-classification", tagged("B-P I-P O", "I-P O"), TAGS)
    assert splits.plain_rows("train")["tags"] == [["B-P", "I-P", "O"], ["I-P", "O"]]
    assert not [note for note in splits.notes if "tags" in note]


def test_tags_of_two_schemes_are_refused_with_the_row(read: Read) -> None:
    with pytest.raises(DataError, match=r"^a\.jsonl, row 1: .* 'L-P', which is not BIO\.\n  Expected BIO, BILOU"):
        read("token-classification", tagged("O B-P L-P", "S-P"), TAGS)


def test_the_plan_names_the_numbers_of_tags(read: Read) -> None:
    names = ["O", "B-P", "L-P", "U-P"]
    splits, facts = read("token-classification", tagged([0, 1, 2], [3, 3, 0]), TAGS, label_names=names)
    assert facts.label_names == ("O", "B-P", "I-P")
    assert splits.plain_rows("train")["tags"] == [["O", "B-P", "I-P"], ["B-P", "B-P", "O"]]
    with pytest.raises(DataError, match=r"^a\.jsonl, row 2: .*'tags' holds 4, and task\.label_names .* 0 to 3"):
        read("token-classification", tagged([0, 1], [4]), TAGS, label_names=names)
    with pytest.raises(DataError, match=r"row 1: .* the tag 1, which is not BIO\.\n  Name the numbers in task\.label_"):
        read("token-classification", tagged([1, 0]), TAGS)


def test_named_numbers_of_classes_keep_their_order(read: Read) -> None:
    rows = [{"text": f"text {number}", "label": str(number % 2)} for number in range(4)]
    columns = {"text": "text", "label": "label"}
    splits, facts = read("text-classification", rows, columns, label_names=["so", "not", "?"])
    assert facts.label_names == ("so", "not", "?")
    assert splits.plain_rows("test")["label"] == ["so", "not", "so", "not"]
    with pytest.raises(DataError, match=r"^a\.jsonl, row 1: the column 'label' holds 'good', and task\.label_names"):
        read("text-classification", [{"text": "a", "label": "good"}], columns, label_names=["a", "b"])


TALK = {"messages": "talk"}
HI = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "ho"}]


def said(splits: RawSplits, row: int = 0) -> list[tuple[str, str]]:
    (talks,) = splits.plain_rows("train").values()
    return [(turn["role"], turn["content"]) for turn in talks[row]]


def test_turns_of_sharegpt_are_read_as_role_and_content(read: Read) -> None:
    turns = [("system", "be brief"), ("human", "hi"), ("gpt", "ho")]
    splits, _ = read("dialogue", [{"talk": [{"from": who, "value": what} for who, what in turns]}, {"talk": HI}], TALK)
    assert said(splits) == [("system", "be brief"), ("user", "hi"), ("assistant", "ho")]
    assert said(splits, 1) == [("user", "hi"), ("assistant", "ho")]
    assert [note for note in splits.notes if note.startswith("The column 'talk' holds ShareGPT's turns")]
    with pytest.raises(DataError, match=r"^a\.jsonl, row 2: the column 'talk' holds the speaker 'cat' in turn 1"):
        read("dialogue", [{"talk": HI}, {"talk": [{"from": "cat", "value": "miaow"}]}], TALK)


def test_rows_of_alpaca_are_one_exchange_each(read: Read) -> None:
    rows = [{"i": "Add.", "x": "1 and 2", "o": "3"}, {"i": "Greet.", "x": "", "o": "Hi."}, {"i": "Go.", "o": "Gone."}]
    splits, _ = read("dialogue", rows, {"instruction": "i", "input": "x", "output": "o"})
    assert said(splits) == [("user", "Add.\n\n1 and 2"), ("assistant", "3")]
    assert said(splits, 1) == [("user", "Greet."), ("assistant", "Hi.")]
    assert said(splits, 2) == [("user", "Go."), ("assistant", "Gone.")]
    assert [note for note in splits.notes if note.startswith("Rows are Alpaca's")]
    with pytest.raises(DataError, match=r"^a\.jsonl, row 2: no text in column 'o'"):
        read("dialogue", [{"i": "a", "o": "b"}, {"i": "a"}], {"instruction": "i", "output": "o"})


def test_text_parts_are_joined_and_other_parts_refused_with_the_row(read: Read) -> None:
    parts = [{"type": "text", "text": "look"}, {"type": "text", "text": "here"}]
    mixed = [{"role": "user", "content": parts}, {"role": "assistant", "content": "ho"}]
    splits, _ = read("dialogue", [{"talk": HI}, {"talk": mixed}], TALK)
    assert said(splits, 0) == [("user", "hi"), ("assistant", "ho")]
    assert said(splits, 1) == [("user", "look\nhere"), ("assistant", "ho")]
    assert [note for note in splits.notes if "a list of parts" in note]
    image = [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}, HI[1]]
    with pytest.raises(
        DataError, match=r"^a\.jsonl, row 2: .* a part of the type 'image_url' in the content of turn 1"
    ):
        read("dialogue", [{"talk": HI}, {"talk": image}], TALK)


def test_plain_turns_stay_as_they_are_without_a_note(read: Read) -> None:
    splits, _ = read("dialogue", [{"talk": HI}], TALK)
    assert splits.plain_rows("train")["talk"] == [HI]
    assert not [note for note in splits.notes if "'talk'" in note]


def call(name: str, arguments: Any) -> dict[str, Any]:
    return {"id": "1", "type": "function", "function": {"name": name, "arguments": arguments}}


def test_tool_calls_keep_their_own_arguments_for_the_template(read: Read) -> None:
    calls = {
        "role": "assistant",
        "content": None,
        "tool_calls": [call("add", {"a": 1}), call("time", '{"zone": "UTC"}')],
    }
    talk = [HI[0], calls, {"role": "tool", "name": "add", "content": "1"}, HI[1]]
    splits, _ = read("dialogue", [{"talk": talk}, {"talk": [HI[0], calls]}], TALK)
    first, second = splits.plain_rows("train")["talk"]
    turns = conversation(first, None)
    assert [turn["role"] for turn in turns] == ["user", "assistant", "tool", "assistant"]
    assert [each["function"]["arguments"] for each in turns[1]["tool_calls"]] == [{"a": 1}, {"zone": "UTC"}]
    assert json.loads(reply_text(conversation(second, None)[-1])) == turns[1]["tool_calls"]
    bad = {"role": "assistant", "content": "", "tool_calls": [{"name": "add"}]}
    with pytest.raises(DataError, match=r"(?s)^a\.jsonl, row 1: .* as tool calls of turn 2\.\n  Expected a list of"):
        read("dialogue", [{"talk": [HI[0], bad]}], TALK)


FLAGS = {"text": "text", "label": ["toxic", "insult", "threat"]}


def flagged(*flags: tuple[Any, Any]) -> list[dict[str, Any]]:
    return [
        {"text": f"text {n}", "toxic": toxic, "insult": insult, "threat": 0} for n, (toxic, insult) in enumerate(flags)
    ]


def test_columns_of_0_and_1_are_the_labels_in_the_order_of_the_plan(read: Read) -> None:
    splits, facts = read("text-classification", flagged((1, 0), (0, 0), (1, 1)), FLAGS, form="multi-label")
    assert facts.label_names == ("toxic", "insult", "threat")
    assert splits.plain_rows("train")["labels"] == [["toxic"], [], ["toxic", "insult"]]
    texts = flagged(("1", "false"), ("0", "TRUE"))
    assert read("text-classification", texts, FLAGS, form="multi-label")[0].plain_rows("test")["labels"] == [
        ["toxic"],
        ["insult"],
    ]
    with pytest.raises(
        DataError, match=r"^a\.jsonl, row 2: the column 'insult' holds -1\.\n  Expected 0 or 1 in every"
    ):
        read("text-classification", flagged((1, 0), (0, -1)), FLAGS, form="multi-label")
    with pytest.raises(
        DataError, match=r"^a\.jsonl: no column 'threat', which the plan names as `columns\.label\[2\]`"
    ):
        read("text-classification", [{"text": "a", "toxic": 1, "insult": 0}], FLAGS, form="multi-label")
