"""Text classification: what it reads, and what it refuses with file and row."""

from collections.abc import Callable
from typing import Any

import datasets
import numpy as np
import pytest
import torch
from transformers import AutoTokenizer
from transformers.modeling_outputs import SequenceClassifierOutput

from finesearch.errors import DataError, ModelError, PlanError
from finesearch.plan import TaskPlan
from finesearch.tasks import RawSplits, TaskFacts, make_task, truncation
from finesearch.tasks.few_rows import few_rows_warnings
from finesearch.tasks.truncation import truncation_remarks

Splits = Callable[..., RawSplits]
Plans = Callable[..., TaskPlan]
TEXTS = ["one", "two", "three", "four"]


def rows(labels: list[Any], texts: list[Any] = TEXTS) -> dict[str, list[Any]]:
    return {"text": texts, "label": labels}


def read(splits: RawSplits, plan: TaskPlan) -> TaskFacts:
    return make_task(plan).read(splits)


@pytest.mark.parametrize(
    ("labels", "names"),
    [
        (["spam", "ham", "spam", "ham"], ("ham", "spam")),
        ([10, 9, 10, -1], ("-1", "9", "10")),
        ([True, False, True, False], ("False", "True")),
        (["10", "9", "10", "9"], ("9", "10")),
    ],
    ids=["names", "integers", "booleans", "integers-as-text"],
)
def test_labels_keep_their_names(make_splits: Splits, make_plan: Plans, labels: list[Any], names: tuple[str]) -> None:
    splits = make_splits(rows(labels), rows(labels), rows(labels))
    task = make_task(make_plan())
    facts = task.read(splits)
    assert facts.label_names == names
    assert [names[i] for i in task.answers(splits.plain_rows("train"), facts)] == [str(label) for label in labels]


def test_a_class_label_keeps_its_own_numbering_and_its_unseen_classes(make_splits: Splits, make_plan: Plans) -> None:
    label = datasets.ClassLabel(names=["zebra", "ant", "never"])
    splits = make_splits(rows([0, 1, 0, 1]), rows([1, 1, 0, 0]), rows([0, 0, 1, 1]), label=label)
    task = make_task(make_plan())
    facts = task.read(splits)
    assert facts.label_names == ("zebra", "ant", "never")
    assert task.answers(splits.plain_rows("train"), facts) == [0, 1, 0, 1]
    assert task.model_settings(facts) == {
        "num_labels": 3,
        "id2label": {0: "zebra", 1: "ant", 2: "never"},
        "label2id": {"zebra": 0, "ant": 1, "never": 2},
        "problem_type": "single_label_classification",
    }


def test_a_float_label_is_refused(make_splits: Splits, make_plan: Plans) -> None:
    splits = make_splits(*[rows([0.5, 1.0, 0.0, 2.0])] * 3)
    text = r"data, split 'train': the label column 'label' holds floating-point numbers \(row 1: 0\.5\), expected class"
    with pytest.raises(DataError, match=text):
        read(splits, make_plan())


def test_a_float_label_written_as_text_is_refused(make_splits: Splits, make_plan: Plans) -> None:
    splits = make_splits(*[rows(["1", "1.5", "2", "1"])] * 3)
    with pytest.raises(DataError, match="holds floating-point numbers"):
        read(splits, make_plan())


def test_integers_that_became_floats_for_a_missing_one_are_explained(make_splits: Splits, make_plan: Plans) -> None:
    splits = make_splits(*[rows([None, 1.0, 0.0, 1.0])] * 3)
    with pytest.raises(DataError, match=r"1 rows have no label; that alone turns integers into floats"):
        read(splits, make_plan())


@pytest.mark.parametrize("split", ["validation", "test"])
def test_a_label_that_train_lacks_is_refused_with_file_and_row(
    make_splits: Splits, make_plan: Plans, split: str
) -> None:
    known, odd = rows(["pos", "neg", "pos", "neg"]), rows(["pos", "neg", "poss", "poss"])
    splits = make_splits(known, odd if split == "validation" else known, odd if split == "test" else known)
    with pytest.raises(DataError) as caught:
        read(splits, make_plan())
    assert caught.value.message == (
        f"data, split '{split}', row 3: the {split} split has the label 'poss' in column 'label' (2 rows),"
        " which no row of train has.\n"
        "  Did you mean 'pos'? Labels of train: 'neg', 'pos'."
        " Correct the label, add such rows to train or remove these."
    )


def test_a_class_that_is_declared_but_not_in_train_counts_as_unknown(make_splits: Splits, make_plan: Plans) -> None:
    label = datasets.ClassLabel(names=["a", "b", "c"])
    splits = make_splits(rows([0, 1, 0, 1]), rows([0, 1, 0, 1]), rows([0, 1, 2, 1]), label=label)
    with pytest.raises(DataError, match="the test split has the label 'c' in column 'label' \\(1 row\\)"):
        read(splits, make_plan())


def test_an_unlabelled_row_among_labelled_ones_is_refused(make_splits: Splits, make_plan: Plans) -> None:
    label = datasets.ClassLabel(names=["a", "b"])
    splits = make_splits(rows([0, -1, 1, 1]), rows([0, 1, 0, 1]), rows([0, 1, 0, 1]), label=label)
    text = r"split 'train', row 2: has a class number outside 0\.\.1 \(-1\) in column 'label'.\n  -1 marks rows without"
    with pytest.raises(DataError, match=text):
        read(splits, make_plan())


@pytest.mark.parametrize(
    ("columns", "text"),
    [
        (rows(["a", None, "b", None]), r"split 'train', row 2: has no label in column 'label' \(and 1 more row\)"),
        (rows(["a", "", "b", "a"]), r"split 'train', row 2: has an empty label in column 'label'"),
        (
            rows([["a"], ["b"], ["a"], ["b"]]),
            r"the label column 'label' holds list<.*>, expected class names, integers",
        ),
        (rows(["a", "a", "a", "a"]), r"every one of the 4 train rows has the label 'a' in column 'label', expected at"),
        (
            rows(list("abab"), ["x", None, "y", None]),
            r"row 2: no text in column 'text' \(and 1 more without\), expected",
        ),
        (rows(list("abab"), [1, 2, 3, 4]), r"the column 'text' holds int64 \(row 1: 1\), expected strings"),
    ],
    ids=["no-label", "empty-label", "label-list", "one-class", "no-text", "text-of-numbers"],
)
def test_rows_that_cannot_be_learned_from_are_refused(
    make_splits: Splits, make_plan: Plans, columns: dict[str, list[Any]], text: str
) -> None:
    with pytest.raises(DataError, match=text):
        read(make_splits(columns, columns, columns), make_plan())


def test_the_text_column_given_as_the_label_is_noticed(make_splits: Splits, make_plan: Plans) -> None:
    many = rows([f"label {i}" for i in range(60)], [f"text {i}" for i in range(60)])
    with pytest.raises(DataError, match="has 60 different values in 60 train rows, expected a few classes"):
        read(make_splits(many, many, many), make_plan())


def test_empty_texts_are_kept_and_noted(make_splits: Splits, make_plan: Plans, tokenizer: Any) -> None:
    splits = make_splits(rows(list("abab"), ["", " ", "x", "y"]), rows(list("abab")), rows(list("abab")))
    task = make_task(make_plan())
    facts = task.read(splits)
    assert facts.notes == ("2 of 4 train rows have an empty 'text'; they are kept.",)
    assert all(len(ids) >= 2 for ids in task.encode(splits.plain_rows("train"), tokenizer, facts)["input_ids"])


def test_pairs_are_encoded_together_and_cut_to_the_length(
    make_splits: Splits, make_plan: Plans, tokenizer: Any
) -> None:
    plan = make_plan(columns={"text": "text", "text_pair": "other", "label": "label"}, max_length=12)
    columns = {"text": ["a b", "long " * 50], "other": ["c", "also long " * 50], "label": ["x", "y"]}
    splits = make_splits(columns, columns, columns, plan=plan)
    task = make_task(plan)
    encoded = task.encode(splits.plain_rows("train"), tokenizer, task.read(splits))
    assert tokenizer.decode(encoded["input_ids"][0]) == "[CLS] a b [SEP] c [SEP]"
    assert encoded["token_type_ids"][0] == [0, 0, 0, 0, 1, 1]
    assert len(encoded["input_ids"][1]) == 12
    assert set(encoded["token_type_ids"][1]) == {0, 1}
    assert encoded["labels"] == [0, 1]


def test_rows_without_labels_can_be_encoded_for_prediction(make_plan: Plans, tokenizer: Any) -> None:
    task = make_task(make_plan())
    facts = TaskFacts(kind=task.kind, label_names=("a", "b"))
    encoded = task.encode({"text": ["hello"]}, tokenizer, facts)
    assert set(encoded) == {"input_ids", "token_type_ids"}
    assert "labels" not in task.collate([{name: values[0] for name, values in encoded.items()}], tokenizer)


def test_a_batch_equals_the_tokenisers_own_padding(make_plan: Plans, tokenizer: Any) -> None:
    task = make_task(make_plan())
    texts = ["short", "a somewhat longer text that takes more tokens", "mid size text"]
    encoded = task.encode(
        {"text": texts, "label": ["b", "a", "b"]}, tokenizer, TaskFacts(kind="", label_names=("a", "b"))
    )
    batch = task.collate(
        [dict(zip(encoded, row, strict=True)) for row in zip(*encoded.values(), strict=True)], tokenizer
    )
    expected = tokenizer(texts, padding=True, pad_to_multiple_of=8, return_tensors="pt")
    assert batch["labels"].tolist() == [1, 0, 1]
    for name, tensor in expected.items():
        assert torch.equal(batch[name], tensor)
        assert batch[name].dtype == torch.int64


def test_the_width_follows_the_multiple_but_not_beyond_the_longest_input(make_plan: Plans, tokenizer: Any) -> None:
    task = make_task(make_plan(max_length=13))
    rows = [{"input_ids": [1] * 11}, {"input_ids": [1]}]
    widths = [task.collate(rows, tokenizer, multiple)["input_ids"].shape[1] for multiple in (1, 4, 8)]
    assert widths == [11, 12, 13]


def test_left_padding_with_the_end_token_follows_the_tokeniser(make_plan: Plans, model_folder: str) -> None:
    tokenizer = AutoTokenizer.from_pretrained(model_folder, padding_side="left", eos_token="[SEP]")
    tokenizer.pad_token = None
    end = tokenizer.convert_tokens_to_ids("[SEP]")
    batch = make_task(make_plan()).collate([{"input_ids": [1]}, {"input_ids": np.array([2, 3])}], tokenizer)
    assert batch["input_ids"].tolist() == [[end] * 7 + [1], [end] * 6 + [2, 3]]
    assert batch["attention_mask"].sum(dim=1).tolist() == [1, 2]


def test_a_tokeniser_that_cannot_pad_is_refused(make_plan: Plans, model_folder: str) -> None:
    tokenizer = AutoTokenizer.from_pretrained(model_folder)
    tokenizer.pad_token = None
    with pytest.raises(ModelError, match="model: the tokeniser has neither a padding token nor an end token, expected"):
        make_task(make_plan()).collate([{"input_ids": [1]}], tokenizer)


def test_the_loss_is_torchs_cross_entropy_with_smoothing(make_plan: Plans) -> None:
    logits = torch.tensor([[2.0, 0.0], [0.0, 1.0]], dtype=torch.bfloat16)
    batch = {"labels": torch.tensor([0, 0])}
    loss = make_task(make_plan()).loss(SequenceClassifierOutput(logits=logits), batch, label_smoothing=0.2)
    expected = torch.nn.CrossEntropyLoss(label_smoothing=0.2)(logits.float(), batch["labels"])
    assert loss.item() == pytest.approx(expected.item())


def test_the_majority_is_the_most_frequent_class(make_plan: Plans) -> None:
    task = make_task(make_plan())
    assert task.majority([2, 1, 1, 2, 0], 3) == [1, 1, 1]


@pytest.mark.parametrize(
    ("predictions", "references"),
    [
        ([0, 1, 2, 2, 1, 0], [0, 1, 1, 2, 2, 0]),
        ([0, 1, 2, 0], [0, 1, 1, 0]),  # a class that is only predicted
        ([0, 1, 1, 0], [0, 1, 2, 0]),  # one that is never predicted
    ],
)
def test_scores_are_scikit_learns(make_plan: Plans, predictions: list[int], references: list[int]) -> None:
    from sklearn import metrics

    assert make_task(make_plan()).score(predictions, references) == {
        "accuracy": metrics.accuracy_score(references, predictions),
        "macro_f1": metrics.f1_score(references, predictions, average="macro"),
        "micro_f1": metrics.f1_score(references, predictions, average="micro"),
        "mcc": pytest.approx(metrics.matthews_corrcoef(references, predictions)),
    }


def test_an_unknown_task_is_refused(make_plan: Plans) -> None:
    plan = make_plan().model_copy(update={"kind": "text-clasification"})
    with pytest.raises(PlanError, match="unknown task 'text-clasification'. Known: .*text-classification"):
        make_task(plan)


def test_labels_that_differ_by_white_space_case_or_unicode_form_are_counted(
    make_splits: Callable[..., RawSplits], make_plan: Callable[..., TaskPlan]
) -> None:
    labels = ["positive", "Positive", "positive ", "negative", "positive", "cafe\u0301", "caf\u00e9"]
    rows = {"text": [f"text {n}" for n in range(7)], "label": labels}
    notes = make_task(make_plan()).read(make_splits(rows, rows, rows)).notes
    same = "Labels in column 'label' differ by white space, case or Unicode form alone: "
    assert notes == (
        f"{same}'Positive' (3), 'positive' (6), 'positive ' (3). Each is a class of its own.",
        f"{same}'cafe\\u0301' (3), 'café' (3). Each is a class of its own.",
    )
    lists = {"text": rows["text"], "label": [[label] for label in labels[:5]] + [["negative", "Negative"]] * 2}
    plan = make_plan(form="multi-label")
    notes = make_task(plan).read(make_splits(lists, lists, lists, plan=plan)).notes
    assert notes[0] == f"{same}'Negative' (6), 'negative' (9). Each is a class of its own."
    assert len(notes) == 2


def test_rows_that_are_cut_are_counted_for_each_split_and_most_of_them_are_a_warning(
    make_splits: Callable[..., RawSplits], make_plan: Callable[..., TaskPlan], tokenizer: Any
) -> None:
    # 30 words and 2 special tokens fit into 32.
    fits, long = " ".join(["film"] * 30), " ".join(["film"] * 31)
    train = {"text": [fits, fits, long, long], "label": ["a", "b"] * 2}
    test = {"text": [fits, long, long], "label": ["a", "b", "a"]}
    splits, task = make_splits(train, {"text": [fits] * 2, "label": ["a", "b"]}, test), make_task(make_plan())
    found = task.truncations(splits, tokenizer, task.read(splits))
    assert [(each.cut, each.counted) for each in found] == [(2, 4), (2, 3)]
    notes, warnings = truncation_remarks(found)
    assert notes == ("2 of the 4 train rows are longer than task.max_length (32 tokens): their ends are cut off.",)
    assert warnings == (
        "2 of the 3 test rows are longer than task.max_length (32 tokens): their ends are cut off. That is most of "
        "them: the model never sees what follows.",
    )


def test_of_very_many_rows_chunks_at_equal_distances_are_counted(
    make_splits: Callable[..., RawSplits], monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = {"text": [str(n) for n in range(100)], "label": ["a", "b"] * 50}
    splits = make_splits(rows, rows, rows)
    monkeypatch.setattr(truncation, "CHUNK_ROWS", 4)
    assert [row for part in truncation.some_rows(splits, "train") for row in part["text"]] == rows["text"]
    monkeypatch.setattr(truncation, "MOST_COUNTED", 12)
    counted = [row for part in truncation.some_rows(splits, "train") for row in part["text"]]
    assert counted == [str(start + n) for start in (0, 33, 66) for n in range(4)]
    (train, *_) = truncation.count_truncations(splits, 8, lambda part: [9] * len(part["text"]))
    assert train.note.startswith(
        "12 of the 12 train rows that were counted (of 100) are longer than task.max_length (8"
    )


@pytest.mark.parametrize(
    ("count", "metric", "step"),
    [
        (1, "accuracy", "1 row, too few to tell which trial is better: the smallest step of accuracy is 1."),
        (8, "accuracy", "8 rows, too few to tell which trial is better: the smallest step of accuracy is 0.125."),
        (4, "mcc", "4 rows, too few to tell which trial is better: one answer moves mcc by up to 0.25."),
        (10, "accuracy", None),
    ],
)
def test_few_rows_are_a_warning_that_says_what_one_answer_is_worth(
    count: int, metric: str, step: str | None, make_splits: Callable[..., RawSplits], make_plan: Any
) -> None:
    plan, many = make_plan(metric=metric), {"text": [f"text {n}" for n in range(20)], "label": ["a", "b"] * 10}
    few = {name: values[:count] for name, values in many.items()}
    splits, task = make_splits(many, few, many, plan=plan), make_task(plan)
    warnings = few_rows_warnings(task, splits, task.read(splits))
    advice = "Give more rows, or leave task.data.validation out: a share of train is then cut for it."
    assert warnings == (() if step is None else (f"The validation split has {step} {advice}",))
