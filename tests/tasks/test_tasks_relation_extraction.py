"""Relations: where the markers go, what is cut from long texts, what counts for F1, and what is refused."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

from finesearch.data.tokenize_splits import encode_in_chunks
from finesearch.errors import DataError
from finesearch.plan import TaskPlan, parse_plan
from finesearch.tasks import RawSplits, TaskFacts, make_task
from finesearch.tasks.classification.relation_metrics import macro_f1, micro_f1
from finesearch.training.model.added_tokens import task_tokenizer
from finesearch.training.model.row_check import check_rows

Splits = Callable[..., RawSplits]
Plans = Callable[..., TaskPlan]
TOKENS = {"tokens": "tokens", "head": "head", "tail": "tail", "relation": "relation"}
TEXT = {"text": "text", "head": "head", "tail": "tail", "relation": "relation"}
TYPED = {**TEXT, "head_type": "head_type", "tail_type": "tail_type"}


@pytest.fixture
def plan_of(make_plan: Plans) -> Plans:
    return lambda columns=TEXT, **fields: make_plan(kind="relation-extraction", columns=columns, **fields)


def rows(
    *examples: tuple[Any, list[int], list[int], Any], key: str = "text", **more: list[Any]
) -> dict[str, list[Any]]:
    names = (key, "head", "tail", "relation")
    return {name: [example[i] for example in examples] for i, name in enumerate(names)} | more


GOOD = rows(("Ada met Bob", [0, 3], [8, 11], "met"), ("Bob is Ada", [7, 10], [0, 3], "same"))


def encode(splits: RawSplits, plan: TaskPlan, folder: str, split: str = "train") -> tuple[dict[str, list[Any]], Any]:
    task = make_task(plan)
    facts = task.read(splits)
    tokenizer, _ = task_tokenizer(Path(folder), facts)
    (part,) = encode_in_chunks(splits, split, task, facts, tokenizer)
    return part, tokenizer


def test_markers_stand_around_head_and_tail_in_either_order(
    make_splits: Splits, plan_of: Plans, model_folder: str
) -> None:
    plan = plan_of()
    encoded, tokenizer = encode(make_splits(GOOD, GOOD, GOOD, plan=plan), plan, model_folder)
    assert [tokenizer.decode(ids) for ids in encoded["input_ids"]] == [
        "[CLS] [E1] ada [/E1] met [E2] bob [/E2] [SEP]",
        "[CLS] [E2] bob [/E2] is [E1] ada [/E1] [SEP]",
    ]
    for ids, (head, tail) in zip(encoded["input_ids"], encoded["markers"], strict=True):
        assert tokenizer.convert_ids_to_tokens([ids[head], ids[tail]]) == ["[E1]", "[E2]"]


def test_token_spans_mark_the_same_as_character_spans(make_splits: Splits, plan_of: Plans, model_folder: str) -> None:
    words = rows(
        (["Ada", "met", "Bob"], [0, 1], [2, 3], "met"), (["Bob", "is", "Ada"], [2, 3], [0, 1], "same"), key="tokens"
    )
    plan = plan_of(TOKENS)
    by_tokens, _ = encode(make_splits(words, words, words, plan=plan), plan, model_folder)
    plan = plan_of()
    assert encode(make_splits(GOOD, GOOD, GOOD, plan=plan), plan, model_folder)[0] == by_tokens


def test_types_stand_in_the_markers(make_splits: Splits, plan_of: Plans, model_folder: str) -> None:
    typed = GOOD | {"head_type": ["PER", "ORG"], "tail_type": ["ORG", "PER"]}
    plan = plan_of(TYPED)
    splits = make_splits(typed, typed, typed, plan=plan)
    assert make_task(plan).read(splits).special_tokens == (
        "[E1:ORG]", "[/E1:ORG]", "[E1:PER]", "[/E1:PER]", "[E2:ORG]", "[/E2:ORG]", "[E2:PER]", "[/E2:PER]",
    )  # fmt: skip
    encoded, tokenizer = encode(splits, plan, model_folder)
    assert tokenizer.decode(encoded["input_ids"][1]) == "[CLS] [E2:PER] bob [/E2:PER] is [E1:ORG] ada [/E1:ORG] [SEP]"


def test_a_long_text_is_cut_around_its_markers(make_splits: Splits, plan_of: Plans, model_folder: str) -> None:
    text = "a " * 50 + "Ada met Bob" + " b" * 50
    some = rows((text, [100, 103], [108, 111], "met"), (text, [108, 111], [100, 103], "same"))
    plan = plan_of(max_length=15)
    encoded, tokenizer = encode(make_splits(some, some, some, plan=plan), plan, model_folder)
    assert tokenizer.decode(encoded["input_ids"][0]) == "[CLS] a a a [E1] ada [/E1] met [E2] bob [/E2] b b b [SEP]"
    assert encoded["markers"] == [[4, 8], [8, 4]]


def test_entities_too_far_apart_are_refused_with_file_and_row_before_a_search(
    make_splits: Splits, plan_of: Plans, model_folder: str
) -> None:
    far = rows(("Ada met Bob", [0, 3], [8, 11], "met"), ("Ada " + "x " * 30 + "Bob", [0, 3], [64, 67], "same"))
    plan = plan_of(max_length=32)
    splits, task = make_splits(GOOD, far, GOOD, plan=plan), make_task(plan)
    text = (
        r"split 'validation', row 2: head and tail with all between them take 36 tokens, and max_length 32 leaves room"
        r" for 30\.\n  Raise `task.max_length`"
    )
    with pytest.raises(DataError, match=text):
        check_rows(task, splits, task.read(splits), Path(model_folder))


def test_a_text_that_holds_a_marker_is_refused(make_splits: Splits, plan_of: Plans, model_folder: str) -> None:
    odd = rows(("Ada met Bob", [0, 3], [8, 11], "met"), ("Ada [E1] Bob", [0, 3], [9, 12], "same"))
    plan = plan_of()
    with pytest.raises(DataError, match=r"split 'train', row 2: the text holds an entity marker of the task \(\[E1\]"):
        encode(make_splits(odd, GOOD, GOOD, plan=plan), plan, model_folder)


def test_markers_are_found_where_padding_stands_on_the_left(plan_of: Plans, model_folder: str) -> None:
    tokenizer = AutoTokenizer.from_pretrained(model_folder, padding_side="left")
    rows_ = [{"input_ids": [1, 2, 3], "markers": [1, 2]}, {"input_ids": [1, 2, 3, 4, 5], "markers": [0, 4]}]
    batch = make_task(plan_of()).collate(rows_, tokenizer, multiple=1)
    assert batch["marker_positions"].tolist() == [[3, 4], [0, 4]]


@pytest.mark.parametrize(
    ("given", "true", "micro", "macro"),
    [
        # No relation is neither found nor missed: 1 right of 2 found, of 3 that are there.
        (["born", "died", "none", "none"], ["born", "born", "died", "none"], 2 * 1 / (2 + 3), (2 * 1 / 3 + 0) / 2),
        (["none", "none"], ["none", "none"], 0.0, 0.0),
        (["none", "none"], ["born", "none"], 0.0, 0.0),
        (["born", "none"], ["born", "none"], 1.0, 1.0),
    ],
)
def test_no_relation_is_left_out_of_f1(given: list[str], true: list[str], micro: float, macro: float) -> None:
    assert micro_f1(given, true, "none") == pytest.approx(micro)
    assert macro_f1(given, true, "none") == pytest.approx(macro)


def test_the_plan_says_which_relation_means_none(make_splits: Splits, plan_of: Plans) -> None:
    some = rows(("Ada met Bob", [0, 3], [8, 11], "met"), ("Bob is Ada", [7, 10], [0, 3], "Other"))
    splits = make_splits(some, some, some, plan=plan_of())
    task = make_task(plan_of(no_relation="Other"))
    assert task.read(splits).notes == ("The relation 'Other' means none: it is left out of micro_f1 and macro_f1.",)
    assert task.score(["Other", "Other"], ["met", "Other"]) == {"micro_f1": 0.0, "macro_f1": 0.0, "accuracy": 0.5}
    assert task.metric("micro_f1")(["met", "Other"], ["met", "met"]) == pytest.approx(2 / 3)
    assert make_task(plan_of()).read(splits).notes == ()
    with pytest.raises(DataError, match=r"no train row has the relation 'none', which the plan names as `no_relation`"):
        make_task(plan_of(no_relation="none")).read(splits)


def test_a_relation_that_means_none_is_of_no_use_to_other_tasks() -> None:
    text = """
name: probe
task: {kind: text-classification, model: m, data: {train: a.csv}, columns: {text: a, label: b}, no_relation: x}
space: {learning_rate: {min: 1e-5, max: 1e-3}}
"""
    assert parse_plan(text).warnings == ("task.no_relation has no effect: text-classification has no relations.",)


@pytest.mark.parametrize(
    ("bad", "text"),
    [
        (
            rows(("Ada", [0, 4], [0, 1], "x")),
            r"row 1: the column 'head' holds the span \[0, 4\), outside its text of 3 c",
        ),
        (rows(("Ada", [0, 1], [2, 2], "x")), r"row 1: the column 'tail' holds the span \[2, 2\), which is empty"),
        (rows(("Ada B", [0, 1], [3, 4], "x")), r"row 1: the column 'tail' holds the span \[3, 4\) of white space"),
        (rows(("Ada", [0, 1, 2], [0, 1], "x")), r"holds the span \[0, 1, 2\]\.\n  Expected \[start, end\): two whole"),
        (rows(("Ada", [0, 1], None, "x"), ("Ada", [0, 1], [0, 1], "x")), r"row 1: the column 'tail' holds nothing"),
        (rows((None, [0, 1], [0, 1], "x"), ("Ada", [0, 1], [0, 1], "x")), r"row 1: no text in column 'text'"),
        (
            rows(("Ada", [0, 1], [0, 1], None), ("Ada", [0, 1], [0, 1], "x")),
            r"row 1: has no label in column 'relation'",
        ),
        (rows(("Ada", [0, 1], [0, 1], "x")), r"every train row has the relation 'x' in column 'relation', expected at"),
    ],
    ids=["outside", "empty", "space", "three", "no-span", "no-text", "no-relation", "one-relation"],
)
def test_bad_rows_are_refused_with_file_and_row(
    make_splits: Splits, plan_of: Plans, bad: dict[str, list[Any]], text: str
) -> None:
    plan = plan_of()
    with pytest.raises(DataError, match=text):
        make_task(plan).read(make_splits(bad, bad, bad, plan=plan))


@pytest.mark.parametrize(
    ("column", "text"),
    [
        (
            "relation",
            r"split 'test', row 2: the test split has the label 'sam' in column 'relation' \(1 row\), which no",
        ),
        ("head_type", r"split 'test', row 2: the test split has the label 'sam' in column 'head_type' \(1 row\)"),
    ],
)
def test_a_relation_or_type_that_train_lacks_is_refused(
    make_splits: Splits, plan_of: Plans, column: str, text: str
) -> None:
    typed = GOOD | {"head_type": ["PER", "ORG"], "tail_type": ["ORG", "PER"]}
    odd, plan = typed | {column: [typed[column][0], "sam"]}, plan_of(TYPED)
    with pytest.raises(DataError, match=text):
        make_task(plan).read(make_splits(typed, typed, odd, plan=plan))


def test_rows_without_relations_can_be_encoded_for_prediction(plan_of: Plans, model_folder: str) -> None:
    task = make_task(plan_of())
    facts = TaskFacts(kind=task.kind, label_names=("a", "b"), special_tokens=("[E1]", "[/E1]", "[E2]", "[/E2]"))
    tokenizer, _ = task_tokenizer(Path(model_folder), facts)
    encoded = task.encode({"text": ["Ada met Bob"], "head": [[0, 3]], "tail": [[8, 11]]}, tokenizer, facts)
    assert set(encoded) == {"input_ids", "markers"}
