"""Named entities: how conlleval reads tags, how texts become windows and come back, and what is refused."""

import json
import random
from collections.abc import Callable
from typing import Any

import datasets
import numpy as np
import pytest
import torch
from transformers import CanineTokenizer
from transformers.modeling_outputs import TokenClassifierOutput

from finesearch.errors import DataError, ModelError
from finesearch.plan import DataPlan, TaskPlan
from finesearch.tasks import RawSplits, Task, TaskFacts, make_task
from finesearch.tasks.encoding.bio_tags import Span, spans_to_tags, tags_to_spans
from finesearch.tasks.encoding.sliding_windows import special_token_affixes
from finesearch.tasks.extraction.entity_metrics import METRICS, score_entities
from finesearch.tasks.extraction.entity_rows import WordSpans
from finesearch.tasks.extraction.word_alignment import words_by_first_piece

Splits = Callable[..., RawSplits]
Plans = Callable[..., TaskPlan]
TOKENS = {"tokens": "tokens", "tags": "tags"}
TEXT = {"text": "text", "spans": "spans"}


@pytest.fixture
def plan_of(make_plan: Plans) -> Plans:
    return lambda columns=TOKENS, **fields: make_plan(kind="token-classification", columns=columns, **fields)


def tagged(*rows: str) -> dict[str, list[Any]]:
    """Rows of ``token/TAG`` pairs."""
    pairs = [[word.rpartition("/")[::2] for word in row.split()] for row in rows]
    return {"tokens": [[t for t, _ in row] for row in pairs], "tags": [[tag for _, tag in row] for row in pairs]}


def spanned(text: str, *spans: tuple[int, int, str]) -> dict[str, list[Any]]:
    return {"text": [text], "spans": [[{"start": s, "end": e, "label": label} for s, e, label in spans]]}


GOOD = tagged("Ada/B-PER Lovelace/I-PER wrote/O", "in/O Rome/B-LOC")
PLAIN = spanned("Ada wrote in Rome.", (0, 3, "PER"), (13, 17, "LOC"))


# What conlleval.pl counts, by hand: its rules startOfChunk and endOfChunk, tag by tag.
@pytest.mark.parametrize(
    ("tags", "spans"),
    [
        ("O O", []),
        ("B-PER I-PER O B-LOC", [[0, 2, "PER"], [3, 4, "LOC"]]),
        ("O I-PER I-PER", [[1, 3, "PER"]]),
        ("B-PER B-PER", [[0, 1, "PER"], [1, 2, "PER"]]),
        ("I-PER B-PER I-PER", [[0, 1, "PER"], [1, 3, "PER"]]),
        ("B-PER I-LOC I-LOC", [[0, 1, "PER"], [1, 3, "LOC"]]),
        ("B-PER I-LOC I-PER", [[0, 1, "PER"], [1, 2, "LOC"], [2, 3, "PER"]]),
        ("B-PER O I-PER", [[0, 1, "PER"], [2, 3, "PER"]]),
        ("I-PER", [[0, 1, "PER"]]),
        ("B-a-b I-a-b", [[0, 2, "a-b"]]),
    ],
)
def test_tags_are_read_as_conlleval_reads_them(tags: str, spans: list[Span]) -> None:
    assert tags_to_spans(tags.split()) == spans


# (predicted tags, true tags) a sentence, then conlleval's counts by hand: correct, found, true.
FIXTURES = {
    "exact": ([("B-PER I-PER O", "B-PER I-PER O")], (1, 1, 1)),
    "boundary": ([("B-PER O O", "B-PER I-PER O")], (0, 1, 1)),
    "type": ([("B-LOC I-LOC", "B-PER I-PER")], (0, 1, 1)),
    "inside without begin": ([("I-PER I-PER O", "B-PER I-PER O")], (1, 1, 1)),
    "type change inside": ([("B-PER I-LOC", "B-PER I-PER")], (0, 2, 1)),
    "begin where inside is meant": ([("B-PER B-PER", "B-PER I-PER")], (0, 2, 1)),
    "two that touch": ([("B-PER B-PER", "B-PER B-PER")], (2, 2, 2)),
    "two that touch, as one": ([("B-PER I-PER", "B-PER B-PER")], (0, 1, 2)),
    "same span in another sentence": ([("B-PER O", "O O"), ("O O", "B-PER O")], (0, 1, 1)),
    "nothing predicted": ([("O O", "B-PER O")], (0, 0, 1)),
    "nothing there": ([("B-PER O", "O O")], (0, 1, 0)),
    "nothing at all": ([("O O", "O O")], (0, 0, 0)),
    # The example of conlleval's own documentation in spirit: 3 of 4 found are right, of 5 that are there.
    "mixed": (
        [
            ("B-PER I-PER O B-LOC O", "B-PER I-PER O B-LOC B-ORG"),
            ("O I-ORG I-ORG O B-LOC", "O B-ORG I-ORG O B-PER"),
        ],
        (3, 4, 5),
    ),
}


@pytest.mark.parametrize("name", FIXTURES)
def test_scores_are_those_of_conlleval(name: str) -> None:
    sentences, (correct, found, true) = FIXTURES[name]
    given, gold = ([tags_to_spans(pair[side].split()) for pair in sentences] for side in (0, 1))
    expected = {
        "precision": correct / found if found else 0.0,
        "recall": correct / true if true else 0.0,
        "f1": 2 * correct / (found + true) if correct else 0.0,
    }
    assert score_entities(given, gold) == pytest.approx(expected)
    assert {metric: score(given, gold) for metric, score in METRICS.items()} == pytest.approx(expected)


def test_the_fast_metrics_equal_the_librarys_on_any_tags() -> None:
    draw = random.Random(0)
    tags = ["O", "B-A", "I-A", "B-B", "I-B"]
    gold = [[draw.choice(tags) for _ in range(draw.randint(1, 20))] for _ in range(200)]
    given = [[draw.choice(tags) if draw.random() < 0.3 else tag for tag in row] for row in gold]
    pair = [tags_to_spans(row) for row in given], [tags_to_spans(row) for row in gold]
    assert {name: metric(*pair) for name, metric in METRICS.items()} == pytest.approx(score_entities(*pair))


def test_spans_that_cut_words_tag_every_word_that_they_touch() -> None:
    words = [(0, 5), (6, 12), (13, 18)]
    assert spans_to_tags(words, [[0, 8, "A"], [9, 12, "B"]]) == (["B-A", "I-A", "O"], 2)
    assert spans_to_tags(words, [[0, 5, "A"], [13, 18, "B"]]) == (["B-A", "O", "B-B"], 0)
    assert spans_to_tags(words, [[5, 6, "A"]]) == (["O", "O", "O"], 1)


def encoded(task: Task, splits: RawSplits, tokenizer: Any) -> tuple[list[dict[str, Any]], TaskFacts]:
    facts = task.read(splits)
    columns = task.encode(splits.plain_rows("train"), tokenizer, facts)
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)], facts


def test_the_first_piece_of_each_word_is_labelled(make_splits: Splits, plan_of: Plans, tokenizer: Any) -> None:
    rows = tagged("Babbage/B-PER visits/O Trieste/B-LOC")
    task = make_task(plan_of())
    (row,), facts = encoded(task, make_splits(rows, rows, rows, plan=task.plan), tokenizer)
    pieces = tokenizer.convert_ids_to_tokens(row["input_ids"])
    assert facts.label_names == ("O", "B-LOC", "I-LOC", "B-PER", "I-PER")
    labelled = {piece: label for piece, label in zip(pieces, row["labels"], strict=True) if label != -100}
    assert list(labelled.values()) == [3, 0, 1]
    assert not any(piece.startswith("##") or piece in ("[CLS]", "[SEP]") for piece in labelled)
    assert len(pieces) > 5


def perfect_predictions(task: Task, rows: list[dict[str, Any]], facts: TaskFacts, tokenizer: Any) -> list[list[Span]]:
    """What comes back when the model says what the labels say."""
    batch = task.collate(rows, tokenizer)
    logits = torch.nn.functional.one_hot(batch["labels"].clamp(min=0), len(facts.label_names)).float()
    return task.combine(task.predict(TokenClassifierOutput(logits=logits), batch), rows, facts)


@pytest.mark.parametrize("max_length", [6, 9, 17, 64])
def test_long_texts_come_back_whole_from_their_windows(
    make_splits: Splits, plan_of: Plans, tokenizer: Any, max_length: int
) -> None:
    draw = random.Random(max_length)
    words = ["Ada", "Wolfeschlegelsteinhausen", "in", "Xylophonia", "wrote", "antidisestablishmentarianism", "a"]
    tags = [[draw.choice(["O", "B-X", "I-X", "B-Y"]) for _ in range(n)] for n in (1, 7, 40, 90)]
    rows = {"tokens": [[draw.choice(words) for _ in row] for row in tags], "tags": tags}
    task = make_task(plan_of(max_length=max_length))
    splits = make_splits(rows, rows, rows, plan=task.plan)
    token_rows, facts = encoded(task, splits, tokenizer)
    assert max(len(row["input_ids"]) for row in token_rows) <= max_length
    assert len(token_rows) > len(tags) or max_length == 64
    # Each word is answered for once, wherever it stands.
    assert sum(map(len, (row["units"] for row in token_rows))) == sum(map(len, tags))
    assert (
        perfect_predictions(task, token_rows, facts, tokenizer)
        == task.references(token_rows)
        == [*map(tags_to_spans, tags)]
    )


def test_a_word_is_answered_for_by_the_window_with_most_context(
    make_splits: Splits, plan_of: Plans, tokenizer: Any
) -> None:
    rows = {"tokens": [["a"] * 20], "tags": [["B-X"] * 20]}
    task = make_task(plan_of(max_length=10))
    token_rows, _ = encoded(task, make_splits(rows, rows, rows, plan=task.plan), tokenizer)
    # Windows of 8 words that share 2: [0, 8), [6, 14), [12, 20); a shared word has 1 word at its side in the one
    # window, none in the other.
    assert [list(row["units"]) for row in token_rows] == [[*range(7)], [*range(7, 13)], [*range(13, 20)]]
    assert [row["window"] for row in token_rows] == [0, 1, 2]


def test_characters_come_back_as_they_were(make_splits: Splits, plan_of: Plans, tokenizer: Any) -> None:
    text = "Ms. Ada  Lovelace-King (北京大学) met O'Neil;\nnobody else."
    spans = [(4, 22, "PER"), (24, 26, "LOC"), (34, 40, "PER")]
    row = spanned(text, *spans)
    task = make_task(plan_of(TEXT))
    token_rows, facts = encoded(task, make_splits(row, row, row, plan=task.plan), tokenizer)
    assert [text[s:e] for s, e, _ in spans] == ["Ada  Lovelace-King", "北京", "O'Neil"]
    assert perfect_predictions(task, token_rows, facts, tokenizer) == [[list(span) for span in spans]]
    assert facts.notes == ()


def test_a_piece_over_several_words_answers_for_all_of_them() -> None:
    text, words = "a b.c", [(0, 1), (2, 3), (3, 4), (4, 5)]
    assert words_by_first_piece(WordSpans(text, words, words), [(0, 1), (1, 4), (4, 5)]) == {
        0: (0, 0),
        1: (1, 2),
        2: (3, 3),
    }
    assert words_by_first_piece(WordSpans(text, words, words), [(0, 2), (2, 3), (2, 3)]) == {0: (0, 0), 1: (1, 1)}


def test_a_token_that_has_no_piece_is_outside_of_every_entity(
    make_splits: Splits, plan_of: Plans, tokenizer: Any
) -> None:
    rows = {"tokens": [["Ada", "", "Lovelace"]], "tags": [["B-PER", "I-PER", "I-PER"]]}
    task = make_task(plan_of())
    token_rows, facts = encoded(task, make_splits(rows, rows, rows, plan=task.plan), tokenizer)
    assert perfect_predictions(task, token_rows, facts, tokenizer) == [[[0, 1, "PER"], [2, 3, "PER"]]]
    assert task.references(token_rows) == [[[0, 3, "PER"]]]


def test_rows_without_tags_can_be_encoded_for_prediction(plan_of: Plans, tokenizer: Any) -> None:
    task = make_task(plan_of(TEXT))
    columns = task.encode(
        {"text": ["Ada wrote"]}, tokenizer, TaskFacts(kind=task.kind, label_names=("O", "B-X", "I-X"))
    )
    assert "labels" not in columns
    batch = task.collate([{name: values[0] for name, values in columns.items()}], tokenizer)
    assert set(batch) == {"input_ids", "attention_mask", "owned"}


def test_the_loss_counts_tagged_words_alone(plan_of: Plans) -> None:
    task = make_task(plan_of())
    logits, labels = torch.randn(2, 3, 5), torch.tensor([[-100, 2, -100], [1, 0, -100]])
    loss = task.loss(TokenClassifierOutput(logits=logits), {"labels": labels}, label_smoothing=0.2)
    expected = torch.nn.CrossEntropyLoss(label_smoothing=0.2)(logits.flatten(0, 1), labels.flatten())
    assert loss.item() == pytest.approx(expected.item())
    assert task.weight({"labels": labels}) == 3
    nothing = {"labels": torch.full((1, 3), -100)}
    assert task.loss(TokenClassifierOutput(logits=logits[:1]), nothing, 0.2).item() == 0.0


def test_class_labels_give_the_tags_their_names(make_splits: Splits, plan_of: Plans) -> None:
    names = datasets.ClassLabel(names=["O", "B-PER", "I-PER"])
    features = datasets.Features({"tokens": datasets.List(datasets.Value("string")), "tags": datasets.List(names)})
    rows = {"tokens": [["Ada", "Lovelace"]], "tags": [[1, 2]]}
    parts = {split: datasets.Dataset.from_dict(rows, features=features) for split in ("train", "validation", "test")}
    splits = RawSplits(
        **parts, notes=(), fingerprints={}, origins=make_splits(GOOD, GOOD, GOOD, plan=plan_of()).origins
    )
    task = make_task(plan_of())
    facts = task.read(splits)
    assert facts.label_names == ("O", "B-PER", "I-PER")
    assert task.answers(splits.plain_rows("test"), facts) == [[[0, 2, "PER"]]]


def test_a_cut_leaves_every_tag_in_train(tmp_path: Any, plan_of: Plans) -> None:
    from finesearch.data import load_splits

    rows = tagged(*(["x/O y/O"] * 40), *[f"w{i}/B-COMMON z/O" for i in range(40)], "Ada/B-RARE Lovelace/I-RARE q/O")
    lines = [json.dumps({"tokens": t, "tags": g}) for t, g in zip(rows["tokens"], rows["tags"], strict=True)]
    (tmp_path / "all.jsonl").write_text("\n".join(lines))
    for seed in range(8):
        data = DataPlan(train=("all.jsonl",), validation_fraction=0.3, test_fraction=0.3, split_seed=seed)
        plan = plan_of(data=data)
        splits = load_splits(plan, tmp_path)
        assert make_task(plan).read(splits).label_names == ("O", "B-COMMON", "I-COMMON", "B-RARE", "I-RARE")
        assert len(splits.test) > 10


@pytest.mark.parametrize(
    ("rows", "text"),
    [
        (
            {"tokens": [["a"], ["b", "c"]], "tags": [["B-X"], ["O"]]},
            r"split 'train', row 2: the column 'tags' holds 1 tags for 2 tokens of 'tokens'\.\n  Expected one tag a",
        ),
        (tagged("a/B-X", "b/Q-X"), r"row 2: the column 'tags' holds the tag 'Q-X', which is not BIO\.\n  Expected"),
        (tagged("a/PER"), r"row 1: the column 'tags' holds the tag 'PER', which is not BIO"),
        (
            {"tokens": [["a"]], "tags": [[3]]},
            r"holds the tag 3, which is not BIO\.\n  Name the numbers in task.label_names",
        ),
        ({"tokens": [["a"], []], "tags": [["B-X"], []]}, r"row 2: the column 'tokens' holds no token"),
        ({"tokens": [["a", None]], "tags": [["B-X", "O"]]}, r"row 1: the column 'tokens' holds the token None"),
        (
            {"tokens": ["a b"], "tags": [["O", "O"]]},
            r"'tokens' holds string, expected lists of strings .*\n  A CSV file",
        ),
        ({"tokens": [["a"], None], "tags": [["B-X"], ["O"]]}, r"row 2: the column 'tokens' holds nothing"),
        (tagged("a/O b/O"), r"split 'train': no train row has an entity in 'tags', expected some"),
    ],
    ids=["lengths", "scheme", "no-prefix", "numbers", "no-tokens", "no-token", "text", "null", "no-entity"],
)
def test_bad_tags_are_refused_with_file_and_row(
    make_splits: Splits, plan_of: Plans, rows: dict[str, list[Any]], text: str
) -> None:
    plan = plan_of()
    with pytest.raises(DataError, match=text):
        make_task(plan).read(make_splits(rows, GOOD, GOOD, plan=plan))


@pytest.mark.parametrize("split", ["validation", "test"])
def test_an_entity_that_train_lacks_is_refused_with_file_and_row(
    make_splits: Splits, plan_of: Plans, split: str
) -> None:
    plan, odd = plan_of(), tagged("a/O", "b/O Rom/B-LCO")
    splits = make_splits(GOOD, odd if split == "validation" else GOOD, odd if split == "test" else GOOD, plan=plan)
    with pytest.raises(DataError) as caught:
        make_task(plan).read(splits)
    assert caught.value.message == (
        f"data, split '{split}', row 2: the {split} split has an entity 'LCO', which no row of train has.\n"
        "  Did you mean 'LOC'? Entities of train: 'LOC', 'PER'. Correct the label, add such rows to train or remove"
        " these."
    )


@pytest.mark.parametrize(
    ("row", "text"),
    [
        (spanned("Ada", (0, 4, "PER")), r"row 1: the column 'spans' holds the span \[0, 4\), outside its text of 3"),
        (spanned("Ada", (-1, 2, "PER")), r"holds the span \[-1, 2\), outside its text of 3 characters"),
        (spanned("Ada", (2, 2, "PER")), r"holds the span \[2, 2\), which is empty\.\n  Its start must be below"),
        (spanned("Ada", (2, 1, "PER")), r"holds the span \[2, 1\), which is empty"),
        (
            spanned("Ada Lovelace", (0, 12, "PER"), (4, 12, "LOC")),
            r"row 1: the column 'spans' holds the spans \[0, 12\) and \[4, 12\), which overlap",
        ),
        (spanned("Ada", (0, 3, "")), r"holds the label '', expected|holds the label ''\.\n  Expected the label's name"),
        (spanned(" \n", (0, 1, "PER")), r"row 1: the column 'text' holds a text without words"),
        ({"text": ["Ada"], "spans": [[{"start": 0, "label": "PER"}]]}, r"row 1: .* Expected \{start, end, label\} for"),
        (
            {"text": ["Ada"], "spans": [[{"start": 0, "end": None, "label": "P"}]]},
            r"the span \(0, None\)\.\n  Expected",
        ),
    ],
    ids=["behind", "before", "empty", "backwards", "overlap", "no-label", "no-words", "no-end", "null-end"],
)
def test_bad_spans_are_refused_with_file_and_row(
    make_splits: Splits, plan_of: Plans, row: dict[str, list[Any]], text: str
) -> None:
    plan = plan_of(TEXT)
    with pytest.raises(DataError, match=f"(?s){text}"):
        make_task(plan).read(make_splits(row, PLAIN, PLAIN, plan=plan))


def test_spans_that_words_cannot_hold_are_noted(make_splits: Splits, plan_of: Plans) -> None:
    plan = plan_of(TEXT)
    splits = make_splits(spanned("Adas", (0, 3, "PER")), spanned("Ada", (0, 3, "PER")), PLAIN, plan=plan)
    with pytest.raises(DataError, match="the test split has an entity 'LOC'"):
        make_task(plan).read(splits)
    same = spanned("Adas", (0, 3, "PER"))
    notes = make_task(plan).read(make_splits(same, same, same, plan=plan)).notes
    assert notes[0].startswith("1 of the 1 train spans begin or end inside a word: learned by the words that they")


def test_a_tokeniser_that_does_not_know_its_offsets_is_refused() -> None:
    with pytest.raises(ModelError, match="CanineTokenizer does not say where its word pieces come from, which spans"):
        special_token_affixes(CanineTokenizer())


@pytest.mark.parametrize(
    ("columns", "text"),
    [
        ({"tokens": "a"}, "needs 'tokens' and 'tags', or 'text' and 'spans', got 'tokens'"),
        ({"tokens": "a", "tags": "b", "text": "c"}, "got 'tokens', 'tags', 'text'"),
        ({}, "got none of them"),
    ],
)
def test_a_plan_gives_one_group_of_columns_whole(plan_of: Plans, columns: dict[str, str], text: str) -> None:
    with pytest.raises(Exception, match=text):
        plan_of(columns)


def test_the_majority_is_no_entity_and_a_decision_is_an_entity(plan_of: Plans) -> None:
    task = make_task(plan_of())
    references: list[Any] = [[[0, 1, "X"], [2, 3, "X"]], [], [[0, 1, "Y"]]]
    assert task.majority(references, 2) == [[], []]
    assert task.num_decisions(references) == 1
    assert np.isclose(task.score(references, references)["f1"], 1.0)
